package registry

import (
	"context"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/weftrun/weft/core"
)

// Patch implements core.Client.
func (r *Registry) Patch(_ context.Context, key core.Key, p core.Patch, _ core.WriteOptions) (core.Object, error) {
	return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", key.GroupResource(), key.Name, string(p.Type)+" is not supported", 0, false)
}

func (r *Registry) track(_ *entry, _, object core.Object, _ *request) core.Object { return object }
