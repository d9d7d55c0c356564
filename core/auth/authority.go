package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/weftrun/weft/core"
)

// How long certificates are valid. Those of servers and clients are made anew
// at each start of a cluster.
const (
	authorityLife   = 10 * 365 * 24 * time.Hour
	certificateLife = 365 * 24 * time.Hour
	clockSkew       = 5 * time.Minute
)

// Authority is a cluster's certificate authority. It is immutable and may be
// used concurrently.
type Authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

// OpenAuthority reads the authority kept under dir (ca.crt and ca.key), or
// makes one there if there is none. dir is made if it does not exist.
func OpenAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	certificatePath, keyPath := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	certificate, err := os.ReadFile(certificatePath)
	if errors.Is(err, fs.ErrNotExist) {
		return createAuthority(certificatePath, keyPath)
	}
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	if err := checkPrivate(keyPath); err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority: %w", err)
	}
	a, err := parseAuthority(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("open certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

func parseAuthority(certificate, key []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("ca.crt and ca.key are no certificate authority")
	}
	if err := validAt(pair.Leaf, time.Now()); err != nil {
		return nil, err
	}
	return &Authority{certificate: pair.Leaf, key: signer, pem: certificate}, nil
}

// validAt tells why an authority's certificate is not valid: it, or the clock, is
// to be mended.
func validAt(certificate *x509.Certificate, now time.Time) error {
	says := "this machine's clock says " + now.UTC().Format(time.RFC3339)
	switch {
	case now.Before(certificate.NotBefore):
		return fmt.Errorf("ca.crt is valid from %s on, and %s: set the clock", certificate.NotBefore.UTC().Format(time.RFC3339), says)
	case now.After(certificate.NotAfter):
		return fmt.Errorf("ca.crt expired at %s, and %s: set the clock if that is wrong; else remove ca.crt and ca.key to make new ones, and then all kubeconfigs", certificate.NotAfter.UTC().Format(time.RFC3339), says)
	}
	return nil
}

// createAuthority writes the key first: what has a certificate is whole.
func createAuthority(certificatePath, keyPath string) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate authority: %w", err)
	}
	template, err := newTemplate(pkix.Name{CommonName: "weft-ca"}, authorityLife)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	certificate, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	encoded, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(keyPath, encoded); err != nil {
		return nil, err
	}
	if err := writeFile(certificatePath, certificate); err != nil {
		return nil, err
	}
	return parseAuthority(certificate, encoded)
}

func newTemplate(subject pkix.Name, life time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial, Subject: subject,
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(life),
	}, nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of %q: %w", template.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// PEM returns the authority's certificate, for those who trust it. The caller
// owns it.
func (a *Authority) PEM() []byte { return append([]byte(nil), a.pem...) }

// Pool returns a new pool that trusts the authority only.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Server returns a certificate for a server that is reached under hosts:
// names and IP addresses, at least one.
func (a *Authority) Server(hosts ...string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		return tls.Certificate{}, errors.New("make server certificate: it needs a host")
	}
	template, err := newTemplate(pkix.Name{CommonName: hosts[0]}, certificateLife)
	if err != nil {
		return tls.Certificate{}, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, key, err := a.issue(template)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make server certificate: %w", err)
	}
	return pair, nil
}

// Client returns a certificate and key in PEM by which its holder is user.
func (a *Authority) Client(user core.User) (certificate, key []byte, err error) {
	if user.Name == "" {
		return nil, nil, errors.New("make client certificate: the user has no name")
	}
	template, err := newTemplate(pkix.Name{CommonName: user.Name, Organization: user.Groups}, certificateLife)
	if err != nil {
		return nil, nil, err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

func (a *Authority) issue(template *x509.Certificate) (certificate, key []byte, err error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key of %q: %w", template.Subject.CommonName, err)
	}
	if certificate, err = sign(template, a.certificate, private.Public(), a.key); err != nil {
		return nil, nil, err
	}
	key, err = encodeKey(private)
	return certificate, key, err
}

// ServerConfig returns the TLS settings of an API server under hosts: TLS 1.2
// or later, HTTP/2, and client certificates verified where one is given. A
// client without one is let through to present a token.
func (a *Authority) ServerConfig(hosts ...string) (*tls.Config, error) {
	certificate, err := a.Server(hosts...)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    a.Pool(),
	}, nil
}
