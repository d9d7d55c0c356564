package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/weftrun/weft/core"
	"github.com/weftrun/weft/core/reconcile"
)

// planner answers "weft plan" by the reconciler.
type planner struct{ reconciler *reconcile.Reconciler }

// PlanReport is what "weft plan" is answered.
type PlanReport struct {
	Changes []PlanChange `json:"changes"`
	// Unfinished says that the controllers would have gone on.
	Unfinished bool `json:"unfinished,omitempty"`
}

// PlanChange is one thing that would happen.
type PlanChange struct {
	Verb      string      `json:"verb"` // create, update, delete
	Group     string      `json:"group,omitempty"`
	Resource  string      `json:"resource"`
	Namespace string      `json:"namespace,omitempty"`
	Name      string      `json:"name"`
	Before    core.Object `json:"before,omitempty"`
	After     core.Object `json:"after,omitempty"`
}

// Plan implements apiserver.Planner.
func (p planner) Plan(ctx context.Context, objects []core.Object) (any, error) {
	changes, err := p.reconciler.Plan(ctx, objects, time.Now())
	unfinished := errors.Is(err, reconcile.ErrUnfinished)
	if err != nil && !unfinished {
		return nil, err
	}
	report := PlanReport{Changes: []PlanChange{}, Unfinished: unfinished}
	for _, c := range changes {
		report.Changes = append(report.Changes, PlanChange{
			Verb: c.Verb, Group: c.Key.Group, Resource: c.Key.Resource, Namespace: c.Key.Namespace, Name: c.Key.Name,
			Before: c.Before, After: c.After,
		})
	}
	return report, nil
}
