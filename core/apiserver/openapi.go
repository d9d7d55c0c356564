package apiserver

import (
	"net/http"
	"strings"

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

// emptyV2 is an OpenAPI v2 document that describes nothing, in protobuf: its
// field 1 says which version of the format it is.
const emptyV2 = "\n\x032.0"

// serveOpenAPIV2 answers a document that describes nothing. Clients take what
// there is to know from OpenAPI v3; kubectl asks for this one when a kind is not
// there, and fails before it can say so if there is none.
func serveOpenAPIV2(w http.ResponseWriter, r *http.Request) error {
	const protobuf = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	if strings.Contains(r.Header.Get("Accept"), "proto-openapi.spec.v2") {
		return answerBytes(w, r, http.StatusOK, protobuf, []byte(emptyV2))
	}
	return answerBytes(w, r, http.StatusOK, typeJSON, []byte(`{"swagger":"2.0","info":{"title":"Weft","version":"v1"},"paths":{}}`+"\n"))
}
