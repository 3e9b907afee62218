package systemcmd_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/cli/streams"
	"banger/internal/cli/systemcmd"
)

// fakeHost has a unit of ours, a resolver's file that only root may remove, and a
// configuration that the user wrote.
type fakeHost struct {
	f      *fake // nil: there is no installation
	broken error
}

func (h *fakeHost) Installed() (bool, error) { return h.f != nil, nil }

func (h *fakeHost) Traces(tag string) (all []systemcmd.Trace, err error) {
	if h.f == nil {
		return nil, nil
	}
	if tag != "beef" {
		return nil, errors.New("of whom?")
	}
	return []systemcmd.Trace{
		{What: "a unit", Path: "/u", Remove: func(context.Context) ([]string, error) {
			h.f.done = append(h.f.done, "unit gone")
			return nil, h.broken
		}},
		{What: "a resolver's", Path: "/r", Remove: func(context.Context) ([]string, error) { return []string{"sudo rm /r"}, nil }},
	}, nil
}

func (h *fakeHost) Data() ([]string, error) {
	if h.f == nil {
		return nil, nil
	}
	return []string{"/state"}, nil
}

func (h *fakeHost) Purge() ([]string, error) {
	h.f.done = append(h.f.done, "purged")
	return []string{"/state/mine"}, nil
}

func (h *fakeHost) Others() (mine, roots []string, err error) {
	return []string{"/config.toml"}, []string{"/etc/x"}, nil
}

func installedFake() *fake {
	f := &fake{vms: []banger.VM{{ID: "v1", State: banger.StateRunning}, {ID: "v2", State: banger.StateStopped}}}
	f.status.Tag = "beef"
	f.host.f = f
	return f
}

// What is asked for is done in an order in which nothing is lost: VMs first, and
// what they lie in last.
func TestUninstall(t *testing.T) {
	const commands = "sudo rm /r\n"
	for _, c := range []struct {
		name, args, in string
		term           bool
		with           func(*fake)
		done, out      string
		said           []string
		code           banger.Code
	}{
		{name: "a VM that does not stop keeps all", args: "--yes", done: "started, stop v1", said: []string{"stops:   1 of 2 VMs", "removes: /u, a unit", "keeps:   all 2 VMs"}, code: banger.Busy},
		{name: "asked and agreed", in: "Yes\n", term: true, with: func(f *fake) { f.vms = f.vms[1:] }, done: "started, stopped, unit gone", out: commands, said: []string{"Go on? [y/N]", "stays:   /state", "stays:   /config.toml", "sudo rm -r /etc/x"}},
		{name: "asked and declined", in: "\n", term: true, done: "started, stopped", said: []string{"Go on?"}, code: banger.Canceled},
		{name: "asked and left", term: true, with: func(f *fake) { f.running = true }, code: banger.Canceled},
		{name: "nobody to ask", code: banger.Invalid},
		{name: "dry run", args: "--dry-run --purge", done: "started, stopped", said: []string{"deletes: all 2 VMs, of which 1 run", "deletes: /state"}},
		{name: "purge", args: "--yes --purge", done: "started, delete v1, force true, delete v2, force true, stopped, unit gone, purged", out: commands, said: []string{"stays:   /state/mine"}},
		{name: "purge of a VM that came after the look", args: "--purge", in: "y\n", term: true, with: func(f *fake) { f.vms, f.later = nil, []banger.VM{{ID: "v3", State: banger.StateRunning}} }, done: "started, delete v3, force true, stopped, unit gone, purged", out: commands},
		{name: "what cannot be removed", args: "--yes --purge", with: func(f *fake) { f.host.broken = errors.New("no") }, done: "started, delete v1, force true, delete v2, force true, stopped, unit gone", code: banger.Internal},
		{name: "nothing there", args: "--yes --purge", with: func(f *fake) { f.host.f = nil }, said: []string{"nothing to take back"}},
		{name: "an argument", args: "web", code: banger.Internal},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := installedFake()
			if c.with != nil {
				c.with(f)
			}
			io, in, out, errs := streams.Test()
			io.InTerm = c.term
			in.WriteString(c.in)
			err := f.run(t, io, "uninstall "+c.args)
			if got := banger.CodeOf(err); got != c.code {
				t.Errorf("error %v", err)
			}
			if got := strings.Join(f.done, ", "); got != c.done {
				t.Errorf("did %q, want %q", got, c.done)
			}
			if out.String() != c.out {
				t.Errorf("printed %q, want %q", out, c.out)
			}
			for _, s := range c.said {
				if !strings.Contains(errs.String(), s) {
					t.Errorf("did not say %q:\n%s", s, errs)
				}
			}
		})
	}
}

func TestUninstallPrints(t *testing.T) {
	f := installedFake()
	io, _, out, _ := streams.Test()
	if err := f.run(t, io, "uninstall --yes --purge -o json"); err != nil {
		t.Fatal(err)
	}
	var u systemcmd.Uninstalled
	if err := json.Unmarshal(out.Bytes(), &u); err != nil {
		t.Fatal(err)
	}
	if len(u.Removed) != 2 || u.Removed[0].Path != "/u" || u.Removed[1].Path != "/state" || !u.Done ||
		!slices.Equal(u.Commands, []string{"sudo rm /r"}) || !slices.Equal(u.Left, []string{"/state/mine", "/config.toml", "/etc/x"}) {
		t.Errorf("printed %s", out)
	}
}
