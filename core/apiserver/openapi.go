package apiserver

import (
	"net/http"

	"github.com/weftrun/weft/core/apiserver/openapi"
)

// serveOpenAPI answers the index of the OpenAPI v3 documents, or one of them.
func (s *Server) serveOpenAPI(w http.ResponseWriter, r *http.Request, path string) error {
	if path == "" {
		w.Header().Set("Vary", "Accept")
		return serveDocument(w, r, "text/plain; charset=utf-8", map[string]any{"paths": s.docs.Index()})
	}
	wanted := false
	for _, m := range parseAccept(r.Header.Get("Accept")) {
		wanted = wanted || m.kind == typeJSON || m.kind == typeAny || m.kind == "application/*"
	}
	if !wanted {
		return errNotAcceptable(typeJSON)
	}
	doc, err := s.docs.Document(path)
	if err != nil {
		return err
	}
	if doc == nil {
		return errNoResource()
	}
	if asked := r.URL.Query().Get("hash"); asked != "" {
		if asked != doc.Hash {
			http.Redirect(w, r, "/openapi/v3/"+path+"?hash="+doc.Hash, http.StatusMovedPermanently)
			return nil
		}
		w.Header().Set("Cache-Control", "public, immutable, max-age=31536000")
	}
	return s.sendDocument(w, r, doc)
}

func (s *Server) sendDocument(w http.ResponseWriter, r *http.Request, doc *openapi.Document) error {
	if unchanged(w, r, []byte(doc.Hash)) {
		return nil
	}
	data, err := doc.JSON()
	if err != nil {
		return err
	}
	return answerBytes(w, r, http.StatusOK, typeJSON, data)
}
