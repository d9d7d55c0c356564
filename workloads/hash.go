package workloads

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"

	appsv1 "k8s.io/api/apps/v1"
)

// TemplateHash returns a short name for template that changes when the
// template or collisions (nil is 0) does. It hashes the JSON form, in which a
// field that a later version adds and nobody sets does not appear. Lookups
// compare templates, never hashes: two templates may share one.
func TemplateHash(template *corev1.PodTemplateSpec, collisions *int32) (string, error) {
	text, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("hash pod template: %w", err)
	}
	h := fnv.New32a()
	_, _ = h.Write(text) // a hash never refuses
	if collisions != nil {
		var b [8]byte
		binary.LittleEndian.PutUint32(b[:], uint32(*collisions))
		_, _ = h.Write(b[:])
	}
	return safeEncode(strconv.FormatUint(uint64(h.Sum32()), 10)), nil
}

// safeEncode spells s in the alphabet of generated names.
func safeEncode(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = safeAlphabet[int(c)%len(safeAlphabet)]
	}
	return string(b)
}

// SameTemplate says that two templates are equal but for the label
// pod-template-hash, which a Deployment adds to those of its ReplicaSets.
func SameTemplate(a, b *corev1.PodTemplateSpec) bool {
	if !sameLabels(a.Labels, b.Labels) || !apiequality.Semantic.DeepEqual(a.Annotations, b.Annotations) {
		return false
	}
	if !apiequality.Semantic.DeepEqual(&a.Spec, &b.Spec) {
		return false
	}
	am, bm := a.ObjectMeta, b.ObjectMeta
	am.Labels, bm.Labels, am.Annotations, bm.Annotations = nil, nil, nil, nil
	return apiequality.Semantic.DeepEqual(&am, &bm)
}

func sameLabels(a, b map[string]string) bool {
	return includes(a, b) && includes(b, a)
}

// includes says that all of part, but the template hash, is in whole.
func includes(whole, part map[string]string) bool {
	for k, v := range part {
		if k == appsv1.DefaultDeploymentUniqueLabelKey {
			continue
		}
		if w, ok := whole[k]; !ok || w != v {
			return false
		}
	}
	return true
}
