package hosttest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"banger"
	"banger/internal/host"
	"banger/internal/host/hosttest"
)

// tools are a qemu-img that can create and an rm that forgets.
func tools() map[string]hosttest.Tool {
	return map[string]hosttest.Tool{
		"qemu-img": func(w *hosttest.World, c host.Cmd) ([]byte, error) {
			if len(c.Args) != 3 || c.Args[0] != "create" {
				return nil, hosttest.ErrUnknown
			}
			w.Files[c.Args[1]] = "qcow2 of " + c.Args[2]
			return nil, nil
		},
		"rm": func(w *hosttest.World, c host.Cmd) ([]byte, error) {
			for _, path := range c.Args {
				delete(w.Files, path)
			}
			return nil, nil
		},
		"qemu-system-x86_64": func(w *hosttest.World, c host.Cmd) ([]byte, error) {
			if _, ok := w.Files[c.Args[0]]; !ok {
				return nil, &host.ExitError{Argv: []string{c.Tool}, Code: 1, Stderr: "no disk"}
			}
			return nil, nil
		},
	}
}

func TestWorld(t *testing.T) {
	h := hosttest.New(t, tools())
	var _ host.Runner = h
	var _ host.Launcher = h
	run := func(tool string, args ...string) {
		t.Helper()
		if _, err := h.Run(t.Context(), host.Cmd{Tool: tool, Args: args}); err != nil {
			t.Fatal(err)
		}
	}
	run("qemu-img", "create", "/b", "1G")
	run("qemu-img", "create", "/a", "2G")
	vmm := host.Cmd{Tool: "qemu-system-x86_64", Args: []string{"/a"}, Owner: &banger.Owner{UID: 7}}
	id, err := h.Launch(t.Context(), vmm, "/log")
	if err != nil {
		t.Fatal(err)
	}
	want := `file /a: qcow2 of 2G
file /b: qcow2 of 1G
log /log: qemu-system-x86_64
process 1000: as 7: qemu-system-x86_64 /a
`
	if got := h.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	h.Exit(id)
	run("rm", "/a", "/b")
	if got := h.String(); got != "log /log: qemu-system-x86_64\n" {
		t.Errorf("at the end:\n%s", got)
	}
	var exit *host.ExitError
	if _, err := h.Launch(t.Context(), vmm, "/log"); !errors.As(err, &exit) {
		t.Errorf("launched without a disk: %v", err)
	}
}

func TestFail(t *testing.T) {
	h := hosttest.New(t, tools())
	second := errors.New("second")
	h.Do(func(w *hosttest.World) {
		w.Fail = func(n int, _ host.Cmd) error {
			if n == 2 {
				return second
			}
			return nil
		}
	})
	for i, want := range []error{nil, second, nil} {
		_, err := h.Run(t.Context(), host.Cmd{Tool: "qemu-img", Args: []string{"create", fmt.Sprint("/", i), "1G"}})
		if !errors.Is(err, want) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if got := h.String(); got != "file /0: qcow2 of 1G\nfile /2: qcow2 of 1G\n" {
		t.Errorf("got\n%s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Run(ctx, host.Cmd{Tool: "rm"}); !errors.Is(err, context.Canceled) || len(h.Calls()) != 3 {
		t.Errorf("cancelled: %v, %q", err, h.Calls())
	}
}

// A judge notes what would have failed the test.
type judge struct {
	testing.TB
	failed bool
}

func (j *judge) Errorf(string, ...any) { j.failed = true }

func TestUnknownArgvFailsTheTest(t *testing.T) {
	for _, c := range []host.Cmd{{Tool: "mke2fs"}, {Tool: "qemu-img", Args: []string{"resize"}}} {
		j := &judge{TB: t}
		if _, err := hosttest.New(j, tools()).Run(t.Context(), c); !errors.Is(err, hosttest.ErrUnknown) || !j.failed {
			t.Errorf("%v: %v", c, err)
		}
	}
}
