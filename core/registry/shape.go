package registry

import (
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// checkShape refuses JSON that is nested too deep, before anything recursive
// reads it. Whether it is JSON is for the decoder to say.
func checkShape(data []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxPatchDepth {
				return apierrors.NewBadRequest(fmt.Sprintf("the patch or its result is nested deeper than %d levels", maxPatchDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
