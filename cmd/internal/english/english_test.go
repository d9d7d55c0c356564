package english_test

import (
	"testing"

	_ "k8s.io/kubectl/pkg/cmd" // would load translations

	"github.com/weftrun/weft/cmd/internal/english"
)

func TestFirst(t *testing.T) {
	if err := english.TooLate(); err != nil {
		t.Error("kubectl was initialised before package english:", err)
	}
}
