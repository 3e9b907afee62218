// Package config reads what the user has set: the environment, then the
// configuration file, then the defaults. Flags come before all of them and are
// the commands' own.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"banger"
	"banger/internal/layout"
)

// A Config is all that can be set, complete.
type Config struct {
	File        string         // where it was read; "" if there is no file
	RuntimeDirs []string       // of runtime bundles: the environment's, then the file's; absolute
	Backend     string         // "": the first that works
	Firecracker string         // path of the program; "": looked for in PATH
	LogLevel    slog.Level     // of the daemon
	UserNetwork string         // what network mode user is made of: auto, passt or qemu
	DNS         netip.AddrPort // where names are served, on the loopback; port 0: any free one; zero: nowhere
	TellHost    bool           // the host's resolver is told of the names where banger-root can
	NAT         bool           // VMs in network mode routed reach the world by default
	Isolate     bool           // VMs in network mode routed are isolated from each other by default
	Defaults    Defaults
}

// Defaults are what a new VM gets where nothing was asked for.
type Defaults struct {
	CPUs     int
	Memory   int64  // bytes
	Disk     int64  // bytes
	WorkDisk int64  // bytes; 0: none
	Image    string // "": the bundle's default
	Network  banger.NetworkMode
}

// userNetworks are what network mode user can be made of; the first is the default.
var userNetworks = []string{"auto", "passt", "qemu"}

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// A file is the configuration file as it is written. Pointers tell a key that
// is absent from one that is zero.
type file struct {
	RuntimeDir *string `toml:"runtime_dir"`
	Backend    *string `toml:"backend"`
	Program    *string `toml:"firecracker"`
	LogLevel   *string `toml:"log_level"`
	Network    struct {
		User    *string `toml:"user"`
		NAT     *bool   `toml:"nat"`
		Isolate *bool   `toml:"isolate"`
	} `toml:"network"`
	DNS struct {
		Listen *string `toml:"listen"`
		Host   *bool   `toml:"host"`
	} `toml:"dns"`
	Defaults struct {
		CPUs     *int    `toml:"cpus"`
		Memory   *string `toml:"memory"`
		Disk     *string `toml:"disk"`
		WorkDisk *string `toml:"work_disk"`
		Image    *string `toml:"image"`
		Network  *string `toml:"network"`
	} `toml:"defaults"`
}

// builtin is what holds where nothing is set.
func builtin() Config {
	return Config{UserNetwork: userNetworks[0], NAT: true, TellHost: true, DNS: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 42069), Defaults: Defaults{
		CPUs:     min(2, runtime.NumCPU()),
		Memory:   1 << 30,
		Disk:     10 << 30,
		WorkDisk: 8 << 30,
		Network:  banger.NetworkAuto,
	}}
}

// Load reads the configuration. Without a file the rest holds; a file that
// BANGER_CONFIG names must be there. What cannot be understood is Invalid and
// names the variable, or the file with its line.
func Load(l layout.Layout, env func(string) string) (Config, error) {
	c := builtin()
	path := l.ConfigFile()
	text, err := read(path)
	switch {
	case err == nil:
		if err := c.apply(path, text); err != nil {
			return Config{}, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return Config{}, banger.Errorf(banger.Invalid, "read the configuration: %w", err).WithRemedy("ls -l %s", path)
	case env("BANGER_CONFIG") != "":
		return Config{}, banger.Errorf(banger.Invalid, "BANGER_CONFIG names %s, which is not there", path).
			WithRemedy("make it, or unset BANGER_CONFIG")
	}
	if err := c.environment(env); err != nil {
		return Config{}, err
	}
	return c, nil
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		return nil, banger.Errorf(banger.Invalid, "%s is larger than %s", path, banger.FormatSize(maxFile))
	}
	return text, err
}

// apply puts what the file sets over c.
func (c *Config) apply(path string, text []byte) error {
	var f file
	d := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return unreadable(path, err)
	}
	c.File = path
	s := setter{prefix: func(key string) string { return fmt.Sprintf("%s:%d: ", path, lineOf(text, key)) }}
	s.dir("runtime_dir", f.RuntimeDir, &c.RuntimeDirs)
	s.word("backend", f.Backend, &c.Backend)
	s.file("firecracker", f.Program, &c.Firecracker)
	s.level("log_level", f.LogLevel, &c.LogLevel)
	s.oneOf("network.user", f.Network.User, userNetworks, &c.UserNetwork)
	s.loopback("dns.listen", f.DNS.Listen, &c.DNS)
	if f.Network.NAT != nil {
		c.NAT = *f.Network.NAT
	}
	if f.Network.Isolate != nil {
		c.Isolate = *f.Network.Isolate
	}
	if f.DNS.Host != nil {
		c.TellHost = *f.DNS.Host
	}
	s.count("defaults.cpus", f.Defaults.CPUs, &c.Defaults.CPUs)
	s.size("defaults.memory", f.Defaults.Memory, &c.Defaults.Memory)
	s.size("defaults.disk", f.Defaults.Disk, &c.Defaults.Disk)
	s.sizeOrNone("defaults.work_disk", f.Defaults.WorkDisk, &c.Defaults.WorkDisk)
	s.word("defaults.image", f.Defaults.Image, &c.Defaults.Image)
	s.network("defaults.network", f.Defaults.Network, &c.Defaults.Network)
	return s.err
}

// environment puts what the environment sets over c. An empty variable is an
// unset one.
func (c *Config) environment(env func(string) string) error {
	get := func(name string) *string {
		if v := env(name); v != "" {
			return &v
		}
		return nil
	}
	var s setter
	var dirs []string
	s.dir("BANGER_RUNTIME_DIR", get("BANGER_RUNTIME_DIR"), &dirs)
	c.RuntimeDirs = append(dirs, c.RuntimeDirs...)
	s.word("BANGER_BACKEND", get("BANGER_BACKEND"), &c.Backend)
	s.file("BANGER_FIRECRACKER", get("BANGER_FIRECRACKER"), &c.Firecracker)
	s.level("BANGER_LOG_LEVEL", get("BANGER_LOG_LEVEL"), &c.LogLevel)
	s.network("BANGER_NETWORK", get("BANGER_NETWORK"), &c.Defaults.Network)
	s.oneOf("BANGER_NETWORK_USER", get("BANGER_NETWORK_USER"), userNetworks, &c.UserNetwork)
	return s.err
}

// unreadable says where in the file the decoder stopped.
func unreadable(path string, err error) error {
	var strict *toml.StrictMissingError
	var bad *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		e := strict.Errors[0]
		row, _ := e.Position()
		return banger.Errorf(banger.Invalid, "%s:%d: unknown key %q", path, row, strings.Join(e.Key(), ".")).
			WithRemedy("known are runtime_dir, backend, firecracker, log_level, user, nat and isolate under [network], listen and host under [dns], and cpus, memory, disk, work_disk, image, network under [defaults]")
	case errors.As(err, &bad):
		row, column := bad.Position()
		return banger.Errorf(banger.Invalid, "%s:%d:%d: %w", path, row, column, err).WithRemedy("edit %s", path)
	}
	return banger.Errorf(banger.Invalid, "%s: %w", path, err).WithRemedy("edit %s", path)
}
