package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/weftrun/weft/wasm/module"
)

// push puts modules into the cluster's own store.
func push(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	return &cobra.Command{
		Use:   "push MODULE.wasm...",
		Short: "Put WebAssembly modules into the cluster's own store",
		Long: `Put WebAssembly modules into the cluster's own store. The last word of each line
that is printed is a reference for the image of a container; its digest makes
sure that every node runs exactly that module.`,
		Example: "  weft push pi.wasm",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := restClient(flags)
			if err != nil {
				return err
			}
			for _, path := range args {
				if err := pushOne(c, client, streams.Out, path); err != nil {
					return fmt.Errorf("push %s: %w", path, err)
				}
			}
			return nil
		},
	}
}

// restClient talks to the API server without knowing kinds.
func restClient(flags *genericclioptions.ConfigFlags) (*rest.RESTClient, error) {
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	return rest.UnversionedRESTClientFor(config)
}

// answer returns what the server said: Raw alone hides its message.
func answer(result rest.Result) ([]byte, error) {
	if err := result.Error(); err != nil {
		return nil, err
	}
	return result.Raw()
}

var unfit = regexp.MustCompile(`[^a-z0-9._-]+`)

func pushOne(c *cobra.Command, client *rest.RESTClient, out io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is no regular file")
	}
	if _, err := module.Inspect(file, info.Size()); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(file, 0, info.Size())); err != nil {
		return err
	}
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	data, err := answer(client.Put().AbsPath("/weft/v1/blobs").Param("digest", digest).
		SetHeader("Content-Type", "application/wasm").Body(io.NewSectionReader(file, 0, info.Size())).
		Do(c.Context()))
	if err != nil {
		return err
	}
	var stored struct {
		Digest string `json:"digest"`
	}
	if err := json.Unmarshal(data, &stored); err != nil || stored.Digest != digest {
		return fmt.Errorf("the server stored %q instead of %s: %w", stored.Digest, digest, err)
	}
	name := strings.Trim(unfit.ReplaceAllString(strings.ToLower(strings.TrimSuffix(filepath.Base(path), ".wasm")), "-"), "-._")
	if name == "" {
		name = "module"
	}
	_, err = fmt.Fprintf(out, "pushed %s, %d bytes, as cluster.local/%s@%s\n", path, info.Size(), name, digest)
	return err
}
