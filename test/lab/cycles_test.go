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

const footprint = `import glob, os, socket, subprocess
pid = subprocess.check_output(["pgrep", "-x", "bangerd"], text=True).strip()
s = socket.socket(socket.AF_UNIX)
s.connect("faults.inside")
print(s.makefile().readline().strip() + ",", len(os.listdir("/proc/%s/fd" % pid)), "descriptors")
`

// Eight lives of a VM on Firecracker and a snapshot, and four at once: the daemon and the
// host have afterwards what they had after the second.
func TestCycles(t *testing.T) {
	scenario(t, func(h *host) {
		before := h.left()
		h.input = strings.NewReader(goOn)
		h.ok(dev, "cat >goon.py")
		h.input = strings.NewReader(footprint)
		h.ok(dev, "cat >footprint.py")
		h.input = nil
		h.ok(dev, faulty+`setsid python3 goon.py >goon.log 2>&1 </dev/null &
echo $! >goon.pid
until [ -S faults ]; do sleep 0.1; done
setsid bangerd >bangerd.log 2>&1 </dev/null &
for i in $(seq 60); do banger daemon status >/dev/null && exit; sleep 1; done; cat bangerd.log; exit 1`)
		var early, devices string
		const cycles = 8
		for n := 1; n <= cycles; n++ {
			h.ok(dev, faulty+fmt.Sprintf("banger vm create -q --no-start --name c%d %s && banger start -q c%[1]d && banger stop -q c%[1]d && banger rm -q c%[1]d", n, small))
			if n == 2 {
				early, devices = h.ok(dev, "python3 footprint.py"), h.left()
			}
		}
		h.settles(early, devices, "after 8")
		h.ok(dev, faulty+`for n in 1 2 3 4; do banger run -q --name v$n `+small+` -- hostname >said$n 2>err$n & done; wait
cat said? | sort | tr '\n' ' ' | grep -x 'v1 v2 v3 v4 ' || { cat err?; exit 1; }
banger rm --force v1 v2 v3 v4`)
		h.settles(early, devices, "after four at once")
		h.ok(dev, faulty+"banger daemon stop; kill $(cat goon.pid)")
		h.endRoot()
		if after := h.left(); after != before {
			h.Errorf("left:\n%s\nand before:\n%s", after, before)
		}
	}, faultyPrograms(t))
}

// settles fails unless the daemon and the host come to have what they had early.
func (h *host) settles(early, devices, when string) {
	h.Helper()
	now := h.as(dev, `for i in $(seq 30); do python3 footprint.py >now; [ "$(cat now)" = "`+early+`" ] && break; sleep 1; done; cat now`)
	if got := strings.TrimSpace(now.out); got != early {
		h.Errorf("%s: %s, and early %s\n%s", when, got, early, h.ok(dev, `python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("faults.inside"); print(s.makefile().read())'; ls -l /proc/$(pgrep -x bangerd)/fd`))
	}
	if got := h.left(); got != devices {
		h.Errorf("%s there are\n%s\nand early\n%s", when, got, devices)
	}
}

// faultyPrograms is a disk with the programs as this test wants them.
func faultyPrograms(t *testing.T) disk {
	t.Helper()
	if os.Getenv("BANGER_TEST") == "" {
		return disk{} // the scenario is skipped
	}
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
