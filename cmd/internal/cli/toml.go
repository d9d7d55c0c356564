package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weftrun/weft/cmd/internal/manifest"
)

// readTOML lets every command with a --filename flag take TOML: what it names
// is converted to JSON in a temporary folder before the command runs.
func readTOML(c *cobra.Command, stdin io.Reader, temp *folder) {
	for _, sub := range c.Commands() {
		readTOML(sub, stdin, temp)
	}
	flag := c.Flags().Lookup("filename")
	if flag == nil {
		return
	}
	names, ok := flag.Value.(pflag.SliceValue)
	if !ok || (c.Run == nil && c.RunE == nil) {
		return
	}
	flag.Annotations = nil // completion then offers .toml as well
	before(c, func(c *cobra.Command, _ []string) error {
		recursive, _ := c.Flags().GetBool("recursive")
		conversion := conversion{recursive: recursive, stdin: stdin, temp: temp}
		for _, name := range names.GetSlice() {
			conversion.add(name)
		}
		if len(conversion.bad) > 0 && (len(conversion.good) == 0 || !goesOn(c)) {
			return errors.Join(conversion.bad...)
		}
		temp.leftOut = conversion.bad
		if err := names.Replace(conversion.good); err != nil {
			return fmt.Errorf("replace --filename: %w", err)
		}
		return nil
	})
}

// goesOn tells whether a command does what it can with the other files where
// one is bad, as kubectl does for YAML. One that prunes must not: it would
// delete what stands in the file that was left out.
func goesOn(c *cobra.Command) bool {
	return slices.Contains([]string{"apply", "create", "delete", "replace"}, c.Name()) && !c.Flags().Changed("prune")
}

// conversion replaces each TOML file, and each folder that holds one, by files
// that kubectl reads.
type conversion struct {
	recursive bool
	stdin     io.Reader
	temp      *folder

	good []string
	bad  []error
}

// add converts what one --filename names.
func (c *conversion) add(name string) {
	switch {
	case name == "-":
		c.keep(fromStdin(c.stdin, c.temp))
	case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
		c.keep(name, nil)
	default:
		c.path(name)
	}
}

func (c *conversion) keep(name string, err error) {
	if err != nil {
		c.bad = append(c.bad, err)
		return
	}
	c.good = append(c.good, name)
}

func (c *conversion) path(name string) {
	info, err := os.Stat(name)
	if err != nil {
		c.keep(name, nil) // kubectl knows globs and says what is wrong
		return
	}
	if !info.IsDir() {
		c.keep(fromFile(name, c.temp))
		return
	}
	files, hasTOML, err := list(name, c.recursive)
	if err != nil || !hasTOML {
		c.keep(name, err)
		return
	}
	for _, file := range files {
		c.keep(fromFile(file, c.temp))
	}
}

// fromStdin keeps what standard input held, since it can be read only once.
func fromStdin(stdin io.Reader, temp *folder) (string, error) {
	data, err := io.ReadAll(io.LimitReader(stdin, manifest.MaxFile+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(data) > manifest.MaxFile {
		return "", fmt.Errorf("standard input: over %d bytes are too large for manifests", manifest.MaxFile)
	}
	if manifest.LooksLikeTOML(data) {
		if data, err = manifest.FromTOML("STDIN", data); err != nil {
			return "", err
		}
	}
	return temp.add("STDIN", ".yaml", data)
}

// list returns the manifests in a folder, in the order of their names.
func list(root string, recursive bool) (files []string, hasTOML bool, err error) {
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && !recursive:
			return fs.SkipDir
		case entry.IsDir() || !slices.Contains(manifest.Extensions, filepath.Ext(path)):
			return nil
		}
		files = append(files, path)
		hasTOML = hasTOML || filepath.Ext(path) == ".toml"
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", root, err)
	}
	return files, hasTOML, nil
}

// fromFile converts a TOML file; of others it only checks the size.
func fromFile(name string, temp *folder) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	if info.Mode().IsRegular() && info.Size() > manifest.MaxFile {
		return "", fmt.Errorf("%s: %d bytes are too large: a manifest may have at most %d", name, info.Size(), manifest.MaxFile)
	}
	if filepath.Ext(name) != ".toml" {
		return name, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, manifest.MaxTOML+1))
	if err != nil {
		return "", fmt.Errorf("read manifest: %w", err)
	}
	if data, err = manifest.FromTOML(name, data); err != nil {
		return "", err
	}
	return temp.add(name, ".json", data)
}
