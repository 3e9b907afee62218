package host_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"banger"
	"banger/internal/host"
)

func TestRunGivesOnlyWhatIsAskedFor(t *testing.T) {
	t.Setenv("SECRET", "x")
	h := script(t, "rm", `printf '%s|' "$0" "$@"; cat; echo "${SECRET-none} $LC_ALL $OWN $(pwd)"; cat <&3`)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out, err := h.Run(t.Context(), host.Cmd{
		Tool: "rm", Args: []string{"a b", "$c"}, Stdin: []byte("in;"), Env: []string{"OWN=mine"}, Dir: "/", Files: []*os.File{f},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(out); !strings.HasSuffix(got, "|a b|$c|in;none C.UTF-8 mine /\n") {
		t.Errorf("got %q", got)
	}
}

func TestRunFails(t *testing.T) {
	h := script(t, "rm", `echo first >&2; printf 'bad \033[31m\001 \n' >&2; exit 7`)
	var heard []string
	_, err := h.Run(t.Context(), host.Cmd{Tool: "rm", Args: []string{"-x"}, Stderr: func(l string) { heard = append(heard, l) }})
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v is no ExitError", err)
	}
	if exit.Code != 7 || exit.Signal != "" || !slices.Equal(exit.Argv, []string{"rm", "-x"}) {
		t.Errorf("got %+v", exit)
	}
	want := []string{"first", `bad \x1b[31m\x01 `}
	if !slices.Equal(heard, want) || exit.Stderr != strings.Join(want, "\n")+"\n" {
		t.Errorf("heard %q, kept %q", heard, exit.Stderr)
	}
	if got := err.Error(); got != `rm: exit code 7: bad \x1b[31m\x01` {
		t.Errorf("message %q", got)
	}
}

func TestRunEndedBySignal(t *testing.T) {
	h := script(t, "rm", `kill -TERM $$`)
	_, err := h.Run(t.Context(), host.Cmd{Tool: "rm"})
	var exit *host.ExitError
	if !errors.As(err, &exit) || exit.Signal != "SIGTERM" {
		t.Errorf("got %v", err)
	}
}

func TestRunMissingTool(t *testing.T) {
	if _, err := os.Stat("/usr/sbin/mmdebstrap"); err == nil {
		t.Skip("mmdebstrap lies in /usr/sbin here")
	}
	path := t.TempDir()
	_, err := host.New(path+":relative").Run(t.Context(), host.Cmd{Tool: "mmdebstrap"})
	e := banger.AsError(err)
	if e.Code != banger.HostUnready || !strings.HasPrefix(e.Remedy, "sudo apt install mmdebstrap; ") ||
		!strings.Contains(e.Remedy, "daemon restart") || !strings.Contains(e.Message, "looks: "+path+":/usr") || strings.Contains(e.Message, "relative") {
		t.Errorf("got %+v", e)
	}
}

func TestRunUnapprovedTool(t *testing.T) {
	for _, tool := range []string{"sh", "/bin/rm", "../rm", ""} {
		if _, err := host.New("/bin").Run(t.Context(), host.Cmd{Tool: tool}); banger.CodeOf(err) != banger.Internal {
			t.Errorf("%q: %v", tool, err)
		}
	}
}

func TestRunEndlessOutput(t *testing.T) {
	h := script(t, "rm", `head -c 20000000 /dev/zero`)
	if _, err := h.Run(t.Context(), host.Cmd{Tool: "rm"}); err == nil || !strings.Contains(err.Error(), "bytes of output") {
		t.Errorf("got %v", err)
	}
}

// A child left behind holds the tool's pipes: Run must neither wait for it nor
// leave it.
func TestRunLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	h := script(t, "rm", `sleep 600 & echo $!`)
	out, err := h.Run(t.Context(), host.Cmd{Tool: "rm", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	gone(t, string(out))
}

func TestRunCancelled(t *testing.T) {
	for name, trap := range map[string]string{"polite": "trap 'echo ended > log; exit 1' TERM", "deaf": "trap '' TERM"} {
		t.Run(name, func(t *testing.T) {
			if name == "deaf" && testing.Short() {
				t.Skip("takes the whole grace period")
			}
			dir := t.TempDir()
			fifo := filepath.Join(dir, "fifo")
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			h := script(t, "rm", trap+"\nsleep 600 & echo $! > fifo; while :; do wait; sleep 1; done")
			why := errors.New("the user left")
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan error, 1)
			go func() { _, err := h.Run(ctx, host.Cmd{Tool: "rm", Dir: dir}); done <- err }()
			child := line(t, fifo)
			cancel(why)
			if err := <-done; !errors.Is(err, why) {
				t.Errorf("got %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "log")); (err == nil) != (name == "polite") {
				t.Errorf("its own end: %v", err)
			}
			gone(t, child)
		})
	}
}

func TestRunAsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: runs as another user")
	}
	h := script(t, "rm", `id -u; id -g; id -G`)
	out, err := h.Run(t.Context(), host.Cmd{Tool: "rm", Dir: "/", Owner: &banger.Owner{UID: 0x70000001, GID: 0x70000002, Groups: []uint32{12345}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(string(out)); !slices.Equal(got, []string{"1879048193", "1879048194", "1879048194", "12345"}) {
		t.Errorf("got %q", got)
	}
}

// gone fails the test if the process lives. It may be an orphan that its new
// parent has not reaped yet.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	p, err := host.ProcOf(n)
	if errors.Is(err, host.ErrGone) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	watch, err := watcher(t).Watch(p)
	if errors.Is(err, host.ErrGone) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	await(t, fmt.Sprintf("end of process %d", n), watch.Gone)
}
