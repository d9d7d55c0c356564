package auth

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/weftrun/weft/core"
)

// maxToken bounds a bearer token's length in bytes.
const maxToken = 4096

// Authenticator recognises users by verified client certificates and bearer
// tokens. There is no anonymous user. It may be used concurrently.
type Authenticator struct {
	// Tokens are optional; without them only certificates are recognised.
	Tokens *Tokens
}

// Authenticate says who sends r. The server's TLS settings must verify client
// certificates (see Authority.ServerConfig). A token that is given must be
// right even if a certificate is. Of what another core forwards the headers say
// who sent it (see core.HeaderRemoteUser); from anyone else they mean nothing.
func (a *Authenticator) Authenticate(r *http.Request) (core.User, error) {
	headers := r.Header.Values("Authorization")
	switch {
	case len(headers) > 1:
		return core.User{}, errors.New("authenticate: several Authorization headers")
	case len(headers) == 1:
		return a.bearer(headers[0])
	case r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && len(r.TLS.VerifiedChains) == 0:
		return core.User{}, errors.New("authenticate: the client certificate is not of this cluster's authority")
	case r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || len(r.TLS.VerifiedChains[0]) == 0:
		return core.User{Name: core.UserAnonymous, Groups: []string{core.GroupUnauthenticated}}, nil
	}
	leaf := r.TLS.VerifiedChains[0][0]
	if leaf.Subject.CommonName == "" {
		return core.User{}, errors.New("authenticate: the client certificate names no user")
	}
	if slices.Contains(leaf.Subject.Organization, core.GroupCores) {
		return forwarded(r.Header)
	}
	return known(core.User{Name: leaf.Subject.CommonName, Groups: slices.Clone(leaf.Subject.Organization)}), nil
}

// forwarded returns the user for whom another core forwards a request, having
// verified who that is.
func forwarded(h http.Header) (core.User, error) {
	names := h.Values(core.HeaderRemoteUser)
	if len(names) != 1 || names[0] == "" {
		return core.User{}, fmt.Errorf("authenticate: a core forwards a request and names %d users, not one", len(names))
	}
	return known(core.User{
		Name: names[0], UID: h.Get(core.HeaderRemoteUID), Groups: slices.Clone(h.Values(core.HeaderRemoteGroup)),
	}), nil
}

func (a *Authenticator) bearer(header string) (core.User, error) {
	scheme, token, _ := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return core.User{}, fmt.Errorf("authenticate: the scheme %.20q is not known, Bearer is", scheme)
	case token == "" || len(token) > maxToken || a.Tokens == nil:
		return core.User{}, errors.New("authenticate: the bearer token is not valid")
	}
	user, ok := a.Tokens.User(token)
	if !ok {
		return core.User{}, errors.New("authenticate: the bearer token is not valid")
	}
	return known(user), nil
}

// known adds the group of all who have a name.
func known(user core.User) core.User {
	if user.Name == core.UserAnonymous {
		return core.User{Name: core.UserAnonymous, Groups: []string{core.GroupUnauthenticated}}
	}
	if !slices.Contains(user.Groups, core.GroupAuthenticated) {
		user.Groups = append(user.Groups, core.GroupAuthenticated)
	}
	return user
}
