package matrix

import (
	"os"
	"testing"
)

// routedStandIns are stand-ins on routed taps, in a namespace with banger-root.
var routedStandIns = setup{network: routed, stack: "qemu", worlds: routed}

// TestStepsOfRouted breaks every step again where VMs have taps: also by
// banger-root's death, and with nobody who starts it again.
func TestStepsOfRouted(t *testing.T) {
	needApart(t)
	matrix(t, sheet{name: "routed", setup: routedStandIns,
		wanted:   func(c trial) bool { return c.nth == 0 },
		everyday: func(c trial) bool { return c.at.step() == "network" && c.fault != canceled && c.fault != late },
	})
}

// TestStepsOfRoot breaks banger-root at every step of its own.
func TestStepsOfRoot(t *testing.T) {
	needApart(t)
	matrix(t, sheet{name: "root", setup: routedStandIns,
		wanted:   func(c trial) bool { return c.nth > 0 },
		everyday: func(c trial) bool { return c.name == "start" || c.name == "stop" },
	})
}

// needApart skips the test where there can be no host of an installation's own.
func needApart(t *testing.T) {
	t.Helper()
	need(t)
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces with taps need root; run as root to test this")
	}
	b := &box{t: t}
	if err := b.apart(); err != nil {
		t.Skipf("SKIPPED: no namespace with rules of its own can be made: %v", err)
	}
	b.host.Close()
}
