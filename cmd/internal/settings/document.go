package settings

import (
	"fmt"
	"reflect"
	"strings"
)

//go:generate go run ./gen ../../../docs/weft.toml

// Document returns a settings file in which every setting stands with what it
// means and, commented out, its default.
func Document() string {
	var out strings.Builder
	out.WriteString("# Every setting of Weft, with its default. Weft reads weft.toml in its data\n" +
		"# folder, or the file that --config names. Unknown keys and values that cannot\n" +
		"# be are errors. Paths that are not absolute are taken from the data folder.\n")
	table(&out, "", reflect.TypeFor[Settings]())
	return out.String()
}

func table(out *strings.Builder, name string, t reflect.Type) {
	var tables []reflect.StructField
	for f := range t.Fields() {
		key := f.Tag.Get("toml")
		switch {
		case key == "-":
		case f.Type.Kind() == reflect.Struct, f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			tables = append(tables, f)
		default:
			fmt.Fprintf(out, "\n%s\n# %s = %s\n", comment(f.Tag.Get("doc")), key, value(f))
		}
	}
	for _, f := range tables {
		key := f.Tag.Get("toml")
		if name != "" {
			key = name + "." + key
		}
		if f.Type.Kind() == reflect.Slice {
			fmt.Fprintf(out, "\n%s\n# [[%s]]\n", comment(f.Tag.Get("doc")), key)
			table(out, key, f.Type.Elem())
			continue
		}
		fmt.Fprintf(out, "\n[%s]\n", key)
		table(out, key, f.Type)
	}
}

// value writes the default as TOML; what is no TOML is a description of one.
func value(f reflect.StructField) string {
	text := f.Tag.Get("default")
	described := strings.HasPrefix(text, "the ")
	switch {
	case described:
		return "... # " + text
	case f.Type.Kind() == reflect.String || f.Type.String() == "time.Duration":
		return fmt.Sprintf("%q", text)
	}
	return text
}

// comment wraps a text at 80 columns.
func comment(text string) string {
	var out strings.Builder
	line := "#"
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > 80 {
			out.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	return out.String() + line
}
