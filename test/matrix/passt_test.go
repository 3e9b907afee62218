package matrix

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"banger"
	"banger/internal/network/usernet"
)

const stackPasst = usernet.StackPasst

// guestsOnPasst are real: a stand-in has no network card.
var guestsOnPasst = setup{real: true, network: "user", stack: stackPasst, worlds: stackPasst}

// TestStepsOfPasst breaks what has to do with a VM's passt: it does not start,
// it dies, the daemon dies around it.
func TestStepsOfPasst(t *testing.T) {
	need(t)
	if _, err := exec.LookPath("passt"); err != nil {
		t.Skipf("SKIPPED: %v (apt install passt)", err)
	}
	matrix(t, sheet{name: "passt", setup: guestsOnPasst,
		wanted: func(c trial) bool {
			adopts := c.prepare != nil // there is one before the step that looks for it
			switch c.name {
			case "restart", "guest reboots":
				return false // a stop, and a start
			}
			return c.real && (c.at.step() == "network" || c.fault == passtDies) && (c.fault != passtDies || adopts || c.at != "before ensure network")
		},
		everyday: func(c trial) bool {
			switch c.name {
			case "start":
				return c.fault == killed || c.fault == passtDies || c.fault == passtFails
			case "stop":
				return c.fault == killed
			}
			return c.prepare != nil && c.fault == passtDies && c.at == "before ensure network"
		},
	})
}

// passtFaultsAt are those that have to do with passt.
func passtFaultsAt(p point) []fault {
	switch p {
	case "before ensure network":
		return []fault{passtFails, passtDies}
	case "after ensure network", "before ensure guest", "after ensure guest", "before release guest":
		return []fault{passtDies}
	}
	return nil
}

// passts are the installation's.
func (b *box) passts() []process {
	b.t.Helper()
	all, err := b.processes()
	if err != nil {
		b.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p process) bool { return p.name() != "passt" })
}

// lossNoticed fails while a VM that has lost its passt is said to be well.
func (b *box) lossNoticed() error {
	if b.state() == string(banger.StateRunning) && len(b.passts()) == 0 {
		return errors.New("it is said to be well")
	}
	return nil
}

// forbidPasst puts a passt before the host's that does nothing but fail.
func (b *box) forbidPasst() {
	dir := filepath.Join(b.Dir, "passt")
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "passt"), []byte("#!/bin/sh\necho not today >&2\nexit 1\n"), 0o755))
	if err != nil {
		b.t.Error(err)
	}
}

func (b *box) letPasst() {
	if err := os.RemoveAll(filepath.Join(b.Dir, "passt")); err != nil {
		b.t.Error(err)
	}
}
