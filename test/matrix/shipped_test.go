package matrix

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banger/test/sandbox"
)

// TestShipped looks for what tests break a daemon with: it is in the daemon that
// was built for them, and in none of the programs that are shipped.
func TestShipped(t *testing.T) {
	build(t)
	marks := []string{"BANGER_FAULTS", "faultyStore"} // banger-root's, see internal/fault, is told by the tag
	has := func(path string) (found []string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v (make build)", err)
		}
		for _, m := range marks {
			if bytes.Contains(content, []byte(m)) {
				found = append(found, m)
			}
		}
		info, err := exec.Command("go", "version", "-m", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, info)
		}
		if strings.Contains(string(info), "-tags=") {
			found = append(found, "a build tag")
		}
		return found
	}
	if found := has(filepath.Join(built.bin, "bangerd")); len(found) != len(marks)+1 {
		t.Errorf("the faulty bangerd has %v alone: this test sees nothing", found)
	}
	for _, name := range []string{"banger", "bangerd", "banger-root", "banger-guest"} {
		if found := has(filepath.Join(sandbox.Root(), "bin", name)); len(found) > 0 {
			t.Errorf("bin/%s has %v", name, found)
		}
	}
}
