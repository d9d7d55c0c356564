package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/weftrun/weft/core"
)

// tabler prints objects as rows of a Table.
type tabler struct {
	s       *Server
	q       *request
	include metav1.IncludeObjectPolicy
	version string // of meta.k8s.io
	columns string // the definitions in JSON
	cells   func(core.Object, time.Time) []any
	now     time.Time
}

var defaultColumns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]},
	{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]},
}

func defaultCells(object core.Object, now time.Time) []any {
	created := object.GetCreationTimestamp()
	age := "<unknown>"
	if !created.IsZero() {
		age = duration.HumanDuration(now.Sub(created.Time))
	}
	return []any{object.GetName(), age}
}

func newTabler(s *Server, q *request, version string) *tabler {
	t := &tabler{s: s, q: q, version: version, now: time.Now()}
	t.include = metav1.IncludeObjectPolicy(q.query.Get("includeObject"))
	columns := q.version.Columns
	t.cells = q.version.Cells
	if len(columns) == 0 || t.cells == nil {
		columns, t.cells = defaultColumns, defaultCells
	}
	data, err := json.Marshal(columns)
	if err != nil {
		panic(err) // they hold strings and numbers
	}
	t.columns = string(data)
	return t
}

// checkInclude refuses an unknown includeObject.
func checkInclude(q *request) error {
	switch metav1.IncludeObjectPolicy(q.query.Get("includeObject")) {
	case "", metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		return nil
	}
	return apierrors.NewBadRequest(fmt.Sprintf("includeObject: Invalid value: %q: must be 'Metadata', 'Object', 'None', or empty", q.query.Get("includeObject")))
}

// row encodes one object's row.
func (t *tabler) row(object core.Object) ([]byte, error) {
	shown, err := t.s.convert(t.q, object)
	if err != nil {
		return nil, err
	}
	cells, err := json.Marshal(t.cells(shown, t.now))
	if err != nil {
		return nil, fmt.Errorf("print %s: %w", t.q.kind.Kind, err)
	}
	var included []byte
	switch t.include {
	case metav1.IncludeNone:
		included = []byte("null")
	case metav1.IncludeObject:
		included, err = t.s.kept(t.q, object, formJSON)
	default:
		included, err = json.Marshal(partial(object, t.version))
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(cells)+len(included)+24)
	b = append(append(b, `{"cells":`...), cells...)
	b = append(append(b, `,"object":`...), included...)
	return append(b, '}'), nil
}

// answerShaped answers with one object as a Table or as its metadata.
func (s *Server) answerShaped(w http.ResponseWriter, r *http.Request, q *request, code int, object core.Object, a answer) error {
	if a.as == asPartial {
		data, err := encodeWhole(partial(object, a.version), a.form)
		if err != nil {
			return err
		}
		return answerBytes(w, r, code, a.form.mediaType(), data)
	}
	if err := checkInclude(q); err != nil {
		return err
	}
	data, err := newTabler(s, q, a.version).table(object, true)
	if err != nil {
		return err
	}
	if a.form == formYAML {
		if data, err = toYAML(data); err != nil {
			return err
		}
	}
	return answerBytes(w, r, code, a.form.mediaType(), data)
}

// table encodes a Table of one row, with its columns or without.
func (t *tabler) table(object core.Object, columns bool) ([]byte, error) {
	row, err := t.row(object)
	if err != nil {
		return nil, err
	}
	return t.wrap(object.GetResourceVersion(), row, columns), nil
}

func (t *tabler) wrap(revision string, row []byte, columns bool) []byte {
	definitions := "null"
	if columns {
		definitions = t.columns
	}
	return fmt.Appendf(nil, `{"kind":"Table","apiVersion":"meta.k8s.io/%s","metadata":{"resourceVersion":%q},"columnDefinitions":%s,"rows":[%s]}`,
		t.version, revision, definitions, row)
}
