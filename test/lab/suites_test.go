package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"banger/internal/vmm/vmmtest"
	"banger/test/sandbox"
)

// The packages' own tests of what other machines do not have: device mapper, KVM,
// Firecracker. Each is run as those whose tests differ.

func TestSuiteOfBlockDevices(t *testing.T) { suite(t, "blockdev", "", root) }
func TestSuiteOfSnapshots(t *testing.T)    { suite(t, "storage/dmsnap", "", dev, root) }
func TestSuiteOfClones(t *testing.T)       { suite(t, "storage/clone", "", root) }
func TestSuiteOfOverlays(t *testing.T)     { suite(t, "storage/overlay", "", dev, root) }
func TestSuiteOfKVM(t *testing.T)          { suite(t, "vmm/kvm", "", dev, root) }

// Guests of the suite are an initramfs, and boot in seconds.
func TestSuiteOfFirecracker(t *testing.T)        { suite(t, "vmm/firecracker", guests, dev) }
func TestSuiteOfFirecrackerAsPlain(t *testing.T) { suite(t, "vmm/firecracker", guests, plain) }
func TestSuiteOfFirecrackerAsRoot(t *testing.T)  { suite(t, "vmm/firecracker", guests, root) }
func TestSuiteOfQEMU(t *testing.T)               { suite(t, "vmm/qemu", guests, dev) }
func TestSuiteOfQEMUAsRoot(t *testing.T)         { suite(t, "vmm/qemu", guests, root) }

// guests are the tests with a real VMM. What else there is needs no KVM and is run
// anywhere, like QEMU's guests on passt; TestStartForbidden wants an ordinary user.
const guests = `-test.run='^(TestConformance|TestStartForbidden)$' -test.skip='^TestConformance/passt$'`

// mayBeSkipped are reasons that hold here: what is another user's test is run as that
// user in another scenario, and the rest is of hosts that are not like this one.
var mayBeSkipped = regexp.MustCompile(`needs root|only root|needs an ordinary user|no console to attach to|this host has a device mapper|this CPU's TSC`)

// suite runs the tests of a package in internal/, built with the tag faults, as each of
// the users, with more flags of go test's. What all of them skip is an error, unless the reason holds here.
func suite(t *testing.T, pkg, flags string, users ...string) {
	scenario(t, func(h *host) {
		h.ok(root, "modprobe -a loop btrfs")
		before := h.left()
		skipped := map[string]int{}
		for _, user := range users {
			r := h.as(user, `cd /lab/suite && export BANGER_TEST_LAB=1 BANGER_TEST_KVM=1 BANGER_RUNTIME_DIR=/lab/small \
	BANGER_TEST_GUEST=/lab/suite/guest BANGER_TEST_ROOT=`+rootProgram+`
exec ./test -test.v -test.timeout=14m `+flags+` 2>&1`)
			results := h.results(r.out)
			counts := map[string]int{}
			for _, e := range results {
				counts[e.Action]++
				switch e.Action {
				case "fail":
					h.Errorf("%s as %s: %s\n%s", pkg, user, e.Test, e.Output)
				case "skip":
					h.Logf("%s as %s: %s is skipped: %s", pkg, user, e.Test, e.Output)
					if !mayBeSkipped.MatchString(e.Output) {
						skipped[e.Test]++
					}
				}
			}
			if r.code != 0 && counts["fail"] == 0 || counts["pass"] == 0 {
				h.Errorf("%s as %s: exit code %d\n%s%s", pkg, user, r.code, r.out, r.err)
			}
			h.Logf("report: lab: internal/%s as %s: %d passed, %d failed, %d skipped", pkg, user, counts["pass"], counts["fail"], counts["skip"])
		}
		for name, n := range skipped {
			if n == len(users) {
				h.Errorf("%s is skipped by all of %s", name, users)
			}
		}
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	}, func(t *testing.T) disk { return buildSuite(t, pkg) })
}

// A testEvent is a line of go tool test2json.
type testEvent struct {
	Action, Test, Output string
}

// results are the tests' ends, each with what it said.
func (h *host) results(out string) (all []testEvent) {
	h.Helper()
	cmd := exec.CommandContext(h.ctx, filepath.Join(sandbox.Root(), "scripts/go"), "tool", "test2json")
	cmd.Dir, cmd.Stdin = sandbox.Root(), strings.NewReader(out)
	lines, err := cmd.Output()
	must(h.T, err)
	said := map[string]string{}
	for d := json.NewDecoder(bytes.NewReader(lines)); d.More(); {
		var e testEvent
		must(h.T, d.Decode(&e))
		switch {
		case e.Test == "":
		case e.Action == "output":
			said[e.Test] += e.Output
		case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
			e.Output = said[e.Test]
			all = append(all, e)
		}
	}
	return all
}

// buildSuite is a disk with a package's tests, and the guest of the suite of VMMs.
func buildSuite(t *testing.T, pkg string) disk {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(t.TempDir(), "main.go")
	must(t, os.WriteFile(source, []byte(vmmtest.GuestSource), 0o644))
	for _, args := range [][]string{
		{"test", "-c", "-tags", "faults", "-o", dir + "/test", "./internal/" + pkg},
		{"build", "-ldflags", "-s -w", "-o", dir + "/guest", source},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(sandbox.Root(), "scripts/go"), args...)
		cmd.Dir, cmd.Env = sandbox.Root(), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	d, err := lab.image.disk(t.Context(), "suite", dir)
	if err != nil {
		t.Fatal(fmt.Errorf("a disk of the tests of %s: %w", pkg, err))
	}
	return d
}
