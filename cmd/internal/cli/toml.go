package cli

import (
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
		converted, err := convert(names.GetSlice(), recursive, stdin, temp)
		if err != nil {
			return err
		}
		if err := names.Replace(converted); err != nil {
			return fmt.Errorf("replace --filename: %w", err)
		}
		return nil
	})
}

// convert returns names with each TOML file, or folder that holds one,
// replaced by files that kubectl reads.
func convert(names []string, recursive bool, stdin io.Reader, temp *folder) ([]string, error) {
	var out []string
	for _, name := range names {
		switch {
		case name == "-":
			path, err := fromStdin(stdin, temp)
			if err != nil {
				return nil, err
			}
			out = append(out, path)
		case strings.HasPrefix(name, "http://"), strings.HasPrefix(name, "https://"):
			out = append(out, name)
		default:
			paths, err := fromPath(name, recursive, temp)
			if err != nil {
				return nil, err
			}
			out = append(out, paths...)
		}
	}
	return out, nil
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

func fromPath(name string, recursive bool, temp *folder) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return []string{name}, nil // kubectl knows globs and says what is wrong
	}
	if !info.IsDir() {
		path, err := fromFile(name, temp)
		return []string{path}, err
	}
	files, hasTOML, err := list(name, recursive)
	if err != nil || !hasTOML {
		return []string{name}, err
	}
	var out []string
	for _, file := range files {
		path, err := fromFile(file, temp)
		if err != nil {
			return nil, err
		}
		out = append(out, path)
	}
	return out, nil
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
