// Command files is a guest that tries what its first argument says with the
// path in its second, and prints the outcome.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	for i := 1; i+1 < len(os.Args); i += 2 {
		fmt.Printf("%s %s: %s\n", os.Args[i], os.Args[i+1], try(os.Args[i], os.Args[i+1]))
	}
	in, err := io.ReadAll(os.Stdin)
	fmt.Printf("stdin: %d bytes, %v\n", len(in), err)
	fmt.Printf("host: %s\n", os.Getenv("HOSTNAME"))
	begin := time.Now()
	time.Sleep(10 * time.Millisecond)
	fmt.Printf("slept: %v\n", time.Since(begin) >= 10*time.Millisecond)
}

func try(what, path string) string {
	var err error
	switch what {
	case "read":
		b, failed := os.ReadFile(path)
		if failed == nil {
			return string(b)
		}
		err = failed
	case "write":
		err = os.WriteFile(path, []byte("guest"), 0o600)
	case "mkdir":
		err = os.Mkdir(path, 0o700)
	case "remove":
		err = os.Remove(path)
	case "link-out":
		err = os.Symlink("/etc", path)
	case "link-up":
		err = os.Symlink("../..", path)
	case "link-in":
		err = os.Symlink("in.txt", path)
	case "list":
		entries, failed := os.ReadDir(path)
		if failed == nil {
			return fmt.Sprint(len(entries))
		}
		err = failed
	}
	if err != nil {
		return "refused"
	}
	return "ok"
}
