// Package settings reads weft.toml: every setting of every part of Weft, each
// with a default that works. It must not act on them.
package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Settings is the content of weft.toml. docs/weft.toml is written from the
// "doc" tags; a path that is not absolute is taken from the data folder.
type Settings struct {
	Data     string `toml:"data" doc:"Folder for everything that Weft keeps. The environment variable WEFT_DATA and --data come first." default:"~/.weft"`
	LogLevel string `toml:"log_level" doc:"What the processes log: debug, info, warn or error." default:"info"`
	// DebugSockets is for those who look for what takes time or memory.
	DebugSockets bool    `toml:"debug_sockets" doc:"Whether each process serves profiles of itself (Go's pprof) on a Unix socket in the folder debug, to the owner alone: curl --unix-socket ~/.weft/debug/core.sock http://weft/debug/pprof/heap." default:"false"`
	API          API     `toml:"api"`
	NATS         NATS    `toml:"nats"`
	Core         Core    `toml:"core"`
	Plugins      Plugins `toml:"plugins"`
	Node         Node    `toml:"node"`
	Source       string  `toml:"-"` // the file that was read; empty if none
	Quiet        bool    `toml:"-"` // nothing says what to log
	AcceptLoss   bool    `toml:"-"` // go on with what is left of a damaged log
}

// API settings.
type API struct {
	Listen string   `toml:"listen" doc:"Address of the Kubernetes API. If the default port is taken, a free one is used." default:"127.0.0.1:6443"`
	Names  []string `toml:"names" doc:"Further host names and addresses for the server's certificate." default:"[]"`
}

// NATS settings.
type NATS struct {
	Listen       string   `toml:"listen" doc:"Address of the embedded NATS server. If the default port is taken, a free one is used." default:"127.0.0.1:4222"`
	URLs         []string `toml:"urls" doc:"Addresses of an outside NATS server, as nats://, tls://, ws:// or wss://; no server is embedded then. Set this or listen." default:"[]"`
	Credentials  string   `toml:"credentials" doc:"Credentials file for an outside server. This and what follows is for such a server alone." default:""`
	Monitoring   []string `toml:"monitoring" doc:"Monitoring addresses of all servers of an outside cluster, such as http://127.0.0.1:8222, from which Weft reads whether they sync each write." default:"[]"`
	Replicas     int      `toml:"replicas" doc:"Copies that an outside cluster keeps of each stream: 1, 3 or 5." default:"1"`
	AssumeSynced bool     `toml:"assume_synced" doc:"Trust that an outside server syncs each write (jetstream sync_interval always), which Weft cannot read there." default:"false"`
}

// Core settings.
type Core struct {
	BlobLimit string `toml:"blob_limit" doc:"Largest module that weft push takes." default:"256Mi"`
}

// Plugins settings.
type Plugins struct {
	Folder        string        `toml:"folder" doc:"Folder that is watched for plugin binaries." default:"plugins"`
	Builtin       []string      `toml:"builtin" doc:"Built-in kinds to serve." default:"[\"deployment\", \"job\", \"replicaset\"]"`
	DecideTimeout time.Duration `toml:"decide_timeout" doc:"How long a controller may think about one object before its process is restarted." default:"10s"`
	Memory        string        `toml:"memory" doc:"Memory that one plugin's process may hold before it is restarted; none for no limit." default:"1Gi"`
	Run           []Plugin      `toml:"run" doc:"Plugins to run, each a table [[plugins.run]]."`
}

// Plugin is one plugin to run.
type Plugin struct {
	Name    string   `toml:"name" doc:"Name, unique." default:""`
	Command string   `toml:"command" doc:"The program." default:""`
	Args    []string `toml:"args" doc:"Its arguments." default:"[]"`
	Env     []string `toml:"env" doc:"Environment variables, as NAME=value." default:"[]"`
	Kinds   []string `toml:"kinds" doc:"Kinds to take from it, even if another plugin serves them: resource.group, such as jobs.batch." default:"[]"`
}

// Node settings.
type Node struct {
	Name          string            `toml:"name" doc:"The node's name." default:"the host's name"`
	Labels        map[string]string `toml:"labels" doc:"Labels of the node." default:"{}"`
	Taints        []string          `toml:"taints" doc:"Taints at registration, as key=value:Effect." default:"[]"`
	CPU           string            `toml:"cpu" doc:"CPU that pods may request." default:"the machine's"`
	Memory        string            `toml:"memory" doc:"Memory that pods may request." default:"the machine's"`
	CompiledLimit string            `toml:"compiled_limit" doc:"Most disk space for compiled modules, in the folder compiled. Those that were not used for longest are removed, and compiled again when they are needed." default:"4Gi"`
	Pods          int               `toml:"pods" doc:"Most pods." default:"11000"`
	ModulePath    []string          `toml:"module_path" doc:"Folders in which image = \"file:name.wasm\" is looked for, in order." default:"[\"modules\"]"`
	AbsoluteFiles bool              `toml:"absolute_files" doc:"Whether image = \"file:///...\" may name any file of this machine." default:"true"`

	Executors      int    `toml:"executors" doc:"Processes that pods of the RuntimeClass dense share. Pods of the RuntimeClass isolated have one each besides." default:"1"`
	ExecutorMemory string `toml:"executor_memory" doc:"Memory that the node's executors may use together, kept by the operating system (control groups) where that is possible; none for no cap." default:"the machine's less a tenth"`
	ExecutorCgroup string `toml:"executor_cgroup" doc:"Control group in which those of the executors are made, by its path below the mount point, such as /weft.slice; if empty, the agent's own." default:""`
	ExecutorFilter bool   `toml:"executor_filter" doc:"Whether the executors' system calls are filtered (seccomp), so that a guest that broke out could start no program and open no socket." default:"true"`
}

// Default returns the settings of an empty file, for a data folder.
func Default(data string) *Settings {
	host, err := os.Hostname()
	if err != nil || len(validation.IsDNS1123Subdomain(strings.ToLower(host))) > 0 {
		host = "node"
	}
	return &Settings{
		Data: data, LogLevel: "info", Quiet: true,
		API:  API{Listen: DefaultAPI},
		NATS: NATS{Listen: DefaultNATS, Replicas: 1},
		Core: Core{BlobLimit: "256Mi"},
		Plugins: Plugins{
			Folder: "plugins", Builtin: slices.Clone(BuiltinKinds), DecideTimeout: 10 * time.Second, Memory: "1Gi",
		},
		Node: Node{
			Name: strings.ToLower(host), CPU: fmt.Sprint(runtime.NumCPU()), Memory: machineMemory(), CompiledLimit: "4Gi", Pods: 11000,
			ModulePath: []string{"modules"}, AbsoluteFiles: true,
			Executors: 1, ExecutorMemory: mostMemory(), ExecutorFilter: true,
		},
	}
}

// The addresses that are replaced by free ones when they are taken.
const (
	DefaultAPI  = "127.0.0.1:6443"
	DefaultNATS = "127.0.0.1:4222"
)

// DataFolder returns the data folder: flag if set, else WEFT_DATA, else
// ~/.weft.
func DataFolder(flag string) (string, error) {
	data := flag
	if data == "" {
		data = os.Getenv("WEFT_DATA")
	}
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the data folder: %w; set WEFT_DATA", err)
		}
		data = filepath.Join(home, ".weft")
	}
	return filepath.Abs(data)
}

// Load reads the settings in file, or, if it is empty, in weft.toml within the
// data folder if there is one. The data folder is that of DataFolder, unless
// only the file names one. Everything that is wrong with the file is in one
// error, with line and key.
func Load(file, flag string) (*Settings, error) {
	data, err := DataFolder(flag)
	if err != nil {
		return nil, err
	}
	explicit := file != ""
	if !explicit {
		file = filepath.Join(data, "weft.toml")
	}
	s := Default(data)
	var read *contents
	content, err := readFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !explicit:
	case err != nil:
		return nil, fmt.Errorf("read settings: %w", err)
	default:
		if read, err = s.decode(file, content); err != nil {
			return nil, fmt.Errorf("settings: %w", err)
		}
		if flag != "" || os.Getenv("WEFT_DATA") != "" {
			s.Data = data
		}
		if s.Data, err = expand(s.Data); err != nil {
			return nil, fmt.Errorf("settings: %s: data: %w", file, err)
		}
	}
	s.resolve()
	if read == nil {
		return s, s.Validate()
	}
	read.check(s)
	if err := read.err(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return s, nil
}

// maxFile bounds a settings file, in bytes.
const maxFile = 1 << 20

func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if len(content) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return content, err
}

// expand makes the path of a folder absolute. No shell has seen it, so that ~ is
// left to be understood here.
func expand(path string) (string, error) {
	if path == "" {
		return "", errors.New("must not be empty")
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%q: %w", path, err)
		}
		path = filepath.Join(home, rest)
	}
	return filepath.Abs(path)
}

// resolve makes paths absolute.
func (s *Settings) resolve() {
	absolute := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(s.Data, *path)
		}
	}
	absolute(&s.Plugins.Folder)
	absolute(&s.NATS.Credentials)
	for i := range s.Node.ModulePath {
		absolute(&s.Node.ModulePath[i])
	}
}
