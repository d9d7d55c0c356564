package host

import (
	"fmt"
	"os"
	"path"

	"github.com/weftrun/weft/wasm"
)

// mount is a folder of the host that a guest sees. The guest reaches it through
// os.Root alone, which follows no link out of it, whoever made that and whenever.
type mount struct {
	host, guest string
	readOnly    bool
}

// mounts checks the folders that a guest is to see.
func mounts(list []wasm.Mount) ([]*mount, error) {
	all := make([]*mount, 0, len(list))
	for i, m := range list {
		if !path.IsAbs(m.Guest) {
			return nil, fmt.Errorf("mounts[%d]: guest path %q must be absolute", i, m.Guest)
		}
		info, err := os.Stat(m.Host)
		if err != nil {
			return nil, fmt.Errorf("mounts[%d]: %w", i, err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("mounts[%d]: %s is not a folder; only folders can be mounted", i, m.Host)
		}
		all = append(all, &mount{host: m.Host, guest: path.Clean(m.Guest), readOnly: m.ReadOnly})
	}
	return all, nil
}
