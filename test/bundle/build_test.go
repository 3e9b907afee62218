// Package bundle_test builds a real runtime bundle out of Debian's packages.
package bundle_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"testing"
	"time"

	"banger/internal/bundle"
	"banger/internal/host"
)

type runner struct{}

func (runner) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Tool, c.Args...)
	cmd.Env = append(c.Env, "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C.UTF-8")
	cmd.Dir = c.Dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	for s := bufio.NewScanner(bytes.NewReader(errs.Bytes())); c.Stderr != nil && s.Scan(); {
		c.Stderr(s.Text())
	}
	if err != nil {
		return out.Bytes(), fmt.Errorf("%s %q: %w\n%s", c.Tool, c.Args, err, errs.Bytes())
	}
	return out.Bytes(), nil
}

type reporter struct{ t *testing.T }

func (r reporter) Step(n string)                        {}
func (r reporter) StepDone(n string, d time.Duration)   { r.t.Logf("%s: %v", n, d) }
func (r reporter) Progress(s string, done, total int64) {}
func (r reporter) Message(f string, a ...any)           { r.t.Logf(f, a...) }

func TestBuild(t *testing.T) {
	if os.Getenv("BANGER_E2E") != "1" {
		t.Skip("builds a whole bundle from Debian's packages: set BANGER_E2E=1")
	}
	u, _ := user.Current()
	uid, _ := strconv.Atoi(u.Uid)
	b := bundle.Builder{Runner: runner{}, Version: "test", UID: uid, User: u.Username, SubUIDFile: "/etc/subuid", SubGIDFile: "/etc/subgid", Now: time.Now}
	out := os.Getenv("BANGER_BUNDLE_OUT")
	made, err := b.Build(t.Context(), out, reporter{t})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", made)
}
