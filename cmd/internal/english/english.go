// Package english keeps kubectl from loading translations while the program
// starts, as a daemon too: 4 MB and 12 ms a process. It must do no more; to
// import it is enough.
//
// kubectl's texts are English in its source, and Weft's own are English only.
package english

import "k8s.io/kubectl/pkg/util/i18n"

// tooLate is an error if translations were loaded before. kubectl's packages
// ask for them while they are initialised, and the only way to refuse is to be
// there first: this package needs little, and its path sorts before theirs, so
// Go initialises it earlier.
var tooLate = i18n.SetLoadTranslationsFunc(func() error { return nil })
