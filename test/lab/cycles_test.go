package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/test/sandbox"
)

// faulty is the environment of a daemon that tells what it has inside: it is built for
// tests, asks one at each point of a VM's life, and is told to go on.
const faulty = "export PATH=/lab/faulty:$PATH BANGER_RUNTIME_DIR=/lab/small BANGER_FAULTS=$HOME/faults; "

const goOn = `import socketserver
class Ask(socketserver.StreamRequestHandler):
    def handle(self):
        self.rfile.readline()
        self.wfile.write(b"{}")
socketserver.ThreadingUnixStreamServer("faults", Ask).serve_forever()
`

const tellFootprint = `import glob, os, socket, subprocess
pid = subprocess.check_output(["pgrep", "-x", "bangerd"], text=True).strip()
s = socket.socket(socket.AF_UNIX)
s.connect("faults.inside")
inside = s.makefile()
goroutines, heap = inside.readline().strip(), inside.readline().split()[1]
root = subprocess.check_output("sudo -n ls /proc/$(pgrep -x banger-root)/fd", shell=True, text=True).split()
with open("/proc/%s/status" % pid) as f:
    rss = [int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS:")][0]
print("%s, %d descriptors, %d of banger-root's" % (goroutines, len(os.listdir("/proc/%s/fd" % pid)), len(root)))
print(heap, rss)
`

// A footprint is what the daemon and banger-root have: counts, which come to be the same,
// and the daemon's memory in bytes, which may be a little more.
type footprint struct {
	counts    string
	heap, rss int64
}

// What the daemon may have more of in the end than after its second VM.
const (
	moreHeap = 1 << 20
	moreRSS  = 8 << 20
)

func parseFootprint(t *testing.T, text string) (f footprint) {
	t.Helper()
	counts, memory, _ := strings.Cut(text, "\n")
	if _, err := fmt.Sscan(memory, &f.heap, &f.rss); err != nil {
		t.Fatalf("a footprint is %q: %v", text, err)
	}
	f.counts = counts
	return f
}

// Lives of a VM on Firecracker and a snapshot, one after another, and four VMs at once: the
// daemon and the host have afterwards what they had after the second life.
func TestCycles(t *testing.T) {
	lives, within := 8, limit
	if os.Getenv("LAB") == "full" {
		lives, within = 30, 4*limit
	}
	scenarioWithin(t, within, func(h *host) {
		h.measured(func(before lasting) {
			for range lives - 2 {
				h.oneLife()
			}
			h.settles(before, fmt.Sprintf("after %d lives", lives))
		})
	}, faultyPrograms)
}

func TestFourAtOnce(t *testing.T) {
	scenario(t, func(h *host) {
		h.measured(func(before lasting) {
			h.ok(dev, faulty+`for n in 1 2 3 4; do banger run -q --name v$n `+small+` -- hostname >said$n 2>err$n & done; wait
cat said? | sort | tr '\n' ' ' | grep -x 'v1 v2 v3 v4 ' || { cat err?; exit 1; }
banger rm --force v1 v2 v3 v4`)
			h.settles(before, "after four at once")
		})
	}, faultyPrograms)
}

// A lasting is what is there while no VM is.
type lasting struct {
	footprint
	left string // on the host
}

// measured does f where a daemon runs that tells what it has inside, and has had two VMs.
func (h *host) measured(f func(lasting)) {
	h.Helper()
	before := h.left()
	for name, text := range map[string]string{"goon.py": goOn, "footprint.py": tellFootprint} {
		h.input = strings.NewReader(text)
		h.ok(dev, "cat >"+name)
	}
	h.input = nil
	h.ok(dev, faulty+`setsid python3 goon.py >goon.log 2>&1 </dev/null &
echo $! >goon.pid
until [ -S faults ]; do sleep 0.1; done
setsid bangerd >bangerd.log 2>&1 </dev/null &
for i in $(seq 60); do banger daemon status >/dev/null && exit; sleep 1; done; cat bangerd.log; exit 1`)
	h.oneLife()
	h.oneLife()
	f(lasting{parseFootprint(h.T, h.ok(dev, "python3 footprint.py")), h.left()})
	h.ok(dev, faulty+"banger daemon stop; kill $(cat goon.pid)")
	h.endRoot()
	if after := h.left(); after != before {
		h.Errorf("left:\n%s\nand before:\n%s", after, before)
	}
}

func (h *host) oneLife() {
	h.Helper()
	h.ok(dev, faulty+"banger vm create -q --no-start --name one "+small+" && banger start -q one && banger stop -q one && banger rm -q one")
}

// settles fails unless the daemon and the host come to have what they had early.
func (h *host) settles(early lasting, when string) {
	h.Helper()
	h.as(dev, `for i in $(seq 30); do python3 footprint.py >now; [ "$(head -n 1 now)" = "`+early.counts+`" ] && break; sleep 1; done`)
	now := parseFootprint(h.T, h.ok(dev, "cat now"))
	h.Logf("report: lab: %s: %s, heap %d KiB, %d KiB resident; early heap %d KiB, %d KiB resident", when, now.counts, now.heap>>10, now.rss>>10, early.heap>>10, early.rss>>10)
	if now.counts != early.counts {
		h.Errorf("%s: %s, and early %s\n%s", when, now.counts, early.counts, h.ok(dev, `python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("faults.inside"); print(s.makefile().read())'; ls -l /proc/$(pgrep -x bangerd)/fd; sudo -n ls -l /proc/$(pgrep -x banger-root)/fd`))
	}
	if now.heap > early.heap+moreHeap || now.rss > early.rss+moreRSS {
		h.Errorf("%s the daemon has a heap of %d bytes, %d resident, and early %d and %d", when, now.heap, now.rss, early.heap, early.rss)
	}
	if got := h.left(); got != early.left {
		h.Errorf("%s there are\n%s\nand early\n%s", when, got, early.left)
	}
}

// faultyPrograms is a disk with the programs as this test wants them.
func faultyPrograms(t *testing.T) disk {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(filepath.Join(sandbox.Root(), "scripts", "go"), "build", "-tags", "faults", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X banger/internal/version.build=lab", "-o", dir+"/", "./cmd/banger", "./cmd/bangerd", "./cmd/banger-guest")
	cmd.Dir = sandbox.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	d, err := lab.image.disk(t.Context(), "faulty", dir)
	must(t, err)
	return d
}
