package registry

import (
	"encoding/binary"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/randfill"

	"github.com/weftrun/weft/core"
)

// FuzzFilledKinds is FuzzKinds with objects of which every field may be set,
// to anything.
func FuzzFilledKinds(f *testing.F) {
	kinds := Builtin()
	for i := range kinds {
		for seed := range 40 {
			data := make([]byte, 8, 2048)
			binary.LittleEndian.PutUint64(data, uint64(seed*131+i))
			for len(data) < cap(data) {
				last := binary.LittleEndian.Uint64(data[len(data)-8:])
				data = binary.LittleEndian.AppendUint64(data, last*6364136223846793005+1442695040888963407)
			}
			f.Add(uint8(i), data)
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		s := kinds[int(which)%len(kinds)]
		o := s.New()
		randfill.NewFromGoFuzz(data).NilChance(0.3).NumElements(0, 3).MaxDepth(12).Funcs(
			func(q *resource.Quantity, c randfill.Continue) {
				*q = *resource.NewMilliQuantity(c.Int63()-c.Int63(), resource.DecimalSI)
			},
			func(v *metav1.FieldsV1, _ randfill.Continue) { v.SetRawBytes([]byte("{}")) },
		).Fill(o)
		o.GetObjectKind().SetGroupVersionKind(s.Kind.GroupVersionKind(""))
		exercise(s, core.Copy(o))
	})
}
