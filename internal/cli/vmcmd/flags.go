package vmcmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"banger"
	"banger/internal/api"
	"banger/internal/api/client"

	"github.com/spf13/cobra"
)

// cpus is the value of --cpu: absent unless it was given.
type cpus struct{ api.Optional[int] }

func (c *cpus) Type() string { return "N" }

func (c *cpus) String() string {
	if c == nil || !c.Optional.Set {
		return ""
	}
	return strconv.Itoa(c.Value)
}

func (c *cpus) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return errors.New("not a whole number")
	}
	if n < 1 {
		return errors.New("a VM has 1 CPU at least; leave the flag out for the default")
	}
	c.Optional = api.Some(n)
	return nil
}

// warn says that more CPUs than the host has make a VM slower, not faster: 64 on
// a host with 2 took two minutes to boot where 2 took some seconds.
func (c *cpus) warn(e Env) {
	if n := runtime.NumCPU(); c.Optional.Set && c.Value > n {
		e.IO.Note("--cpu %d: this host has %d; a VM with more is slower, not faster", c.Value, n)
	}
}

// size is the value of --memory and --disk: absent unless it was given.
type size struct{ api.Optional[int64] }

func (z *size) Type() string { return "SIZE" }

func (z *size) String() string {
	if z == nil || !z.Optional.Set {
		return ""
	}
	return banger.FormatSize(z.Value)
}

func (z *size) Set(s string) error {
	if strings.Trim(s, "0") == "" { // what is wrong with it is not the unit
		return errors.New("must be more than nothing; leave the flag out for the default")
	}
	n, err := banger.ParseSize(s)
	if err != nil {
		return err
	}
	if n < 1 {
		return errors.New("must be more than nothing; leave the flag out for the default")
	}
	z.Optional = api.Some(n)
	return nil
}

// workSize is the value of --work-disk: a size, or 0 or none for no such disk.
type workSize struct{ size }

func (z *workSize) String() string {
	if z != nil && z.Optional.Set && z.Value == 0 {
		return "0"
	}
	return z.size.String()
}

func (z *workSize) Set(s string) error {
	if s == "0" || s == "none" {
		z.Optional = api.Some(int64(0))
		return nil
	}
	return z.size.Set(s)
}

// label is the value of --name.
type label struct{ api.Optional[string] }

func (l *label) Type() string   { return "NAME" }
func (l *label) String() string { return l.Value }

func (l *label) Set(s string) error {
	if err := banger.ValidName(s); err != nil {
		return err
	}
	l.Optional = api.Some(s)
	return nil
}

// word is a value that the daemon knows the meaning of.
type word struct {
	api.Optional[string]
	kind string
	of   []string // the only ones, if not nil
}

func (w *word) Type() string   { return w.kind }
func (w *word) String() string { return w.Value }

func (w *word) Set(s string) error {
	if s == "" {
		return errors.New("it is empty; leave the flag out for the default")
	}
	if w.of != nil {
		if err := oneOf(s, w.of); err != nil {
			return err
		}
	}
	w.Optional = api.Some(s)
	return nil
}

func oneOf(s string, words []string) error {
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	return fmt.Errorf("want %s", strings.Join(words, ", "))
}

// choice is the value of a flag that is yes when it stands alone, and absent
// unless it was given.
type choice struct{ api.Optional[bool] }

func (c *choice) Type() string     { return "bool" }
func (c *choice) IsBoolFlag() bool { return true }

func (c *choice) String() string {
	if c == nil || !c.Optional.Set {
		return ""
	}
	return strconv.FormatBool(c.Value)
}

func (c *choice) Set(s string) error {
	v, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("want true or false")
	}
	c.Optional = api.Some(v)
	return nil
}

// spec is what a VM can be asked to be; create and run have all of it, set has
// what can be changed later.
type spec struct {
	name    label
	image   word
	cpus    cpus
	memory  size
	disk    size
	work    workSize
	network word
	publish ports[banger.Publish]
	allow   ports[banger.HostPort]
	alone   choice
	nat     choice
	backend word
	bundle  word

	autostart choice
}

// backends in the order in which the daemon tries them.
var backends = []string{"firecracker", "qemu"}

var networks = []string{string(banger.NetworkAuto), string(banger.NetworkUser), string(banger.NetworkRouted)}

func (s *spec) addChangeable(cmd *cobra.Command) {
	s.network = word{kind: "MODE", of: networks}
	s.backend = word{kind: "BACKEND", of: backends}
	s.publish, s.allow = published(true), ofHost("PORT[/udp]", true)
	f := cmd.Flags()
	f.Var(&s.cpus, "cpu", "virtual CPUs")
	f.Var(&s.memory, "memory", "memory, with its unit: 512MiB, 2G")
	f.Var(&s.disk, "disk", "size of the root disk, with its unit")
	f.Var(&s.work, "work-disk", "size of the disk that is its /root, with its unit; 0: none, /root is on the root disk")
	f.Var(&s.network, "network", strings.Join(networks, ", "))
	f.Var(&s.autostart, "autostart", "start it with the daemon, as after a reboot of the host")
	f.Lookup("autostart").NoOptDefVal = "true"
	complete(cmd, "network", networks)
	f.Var(&s.backend, "backend", "what runs the VM: "+strings.Join(backends, ", ")+"; left out: the first that works")
	complete(cmd, "backend", backends)
	f.Var(&s.publish, "publish", "lead a port of the host to one of the VM's; may be repeated, none takes all away")
	f.Var(&s.alone, "isolated", "the VM reaches nothing, no other VM, and in network mode user not the world either")
	f.Lookup("isolated").NoOptDefVal = "true"
	f.Var(&s.nat, "nat", "in network mode routed: the VM reaches the world, or does not start; =false: it does not reach it")
	f.Lookup("nat").NoOptDefVal = "true"
	complete(cmd, "publish", nil)
	f.Var(&s.allow, "allow-host", "in network mode routed: let the VM to a port of the host, by the name host.vm; may be repeated, none takes all away")
	complete(cmd, "allow-host", nil)
}

func (s *spec) add(cmd *cobra.Command) {
	s.addChangeable(cmd)
	s.image, s.bundle = word{kind: "IMAGE"}, word{kind: "DIR"}
	f := cmd.Flags()
	f.Var(&s.name, "name", "name of the VM; without it one is made up")
	f.Var(&s.bundle, "bundle", "directory of the runtime bundle to use")
}

// request is the create request for s. What no flag says the caller's
// environment may: the daemon has its own, from whoever started it.
func (s *spec) request(e Env) (api.CreateRequest, error) {
	s.cpus.warn(e)
	bundle, backend := s.bundle.Optional, s.backend.Optional
	if !bundle.Set {
		dir, err := client.NamedBundle(e.IO.Getenv)
		if err != nil {
			return api.CreateRequest{}, err
		}
		bundle = api.Optional[string]{Value: dir, Set: dir != ""}
	}
	if name := e.IO.Getenv("BANGER_BACKEND"); name != "" && !backend.Set {
		backend = api.Some(name)
	}
	if bundle.Set {
		dir, err := filepath.Abs(bundle.Value)
		if err != nil {
			return api.CreateRequest{}, banger.Errorf(banger.Invalid, "find %s: %w", bundle.Value, err)
		}
		bundle.Value = dir
	}
	return api.CreateRequest{
		Name: s.name.Optional, Image: s.image.Optional,
		CPUs: s.cpus.Optional, Memory: s.memory.Optional, Disk: s.disk.Optional,
		Network: s.network.Optional, Backend: backend, Bundle: bundle,
		WorkDisk: s.work.Optional, Publish: s.publish.Optional, Isolated: s.alone.Optional, NAT: s.nat.Optional, AllowHost: s.allow.Optional,
		Autostart: s.autostart.Optional,
	}, nil
}
