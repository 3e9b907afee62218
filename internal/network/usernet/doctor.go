package usernet

import (
	"cmp"
	"context"
	"fmt"

	"banger"
	"banger/internal/network"
)

// What doctor says that guests reach, on each stack.
const (
	qemuReach  = "guests reach the host's loopback (127.0.0.1, through the gateway's address), its other addresses, and the world"
	passtReach = "guests reach the host's other addresses and the world, not its loopback (127.0.0.1)"
	trust      = "run only guests that you trust with that; --isolated shuts a VM off from all of it"
)

// An Assessment is which stack the next VM gets, why, and what that means.
type Assessment struct {
	Stack   string
	Message string
	Remedy  string
	Err     error // the stack was configured and does not work
}

// Assess looks, with a NIC like the next VM's.
func (a *Attacher) Assess(ctx context.Context, n network.NIC) Assessment {
	if a.c.Stack == StackQEMU || a.c.Passt == nil {
		return Assessment{Stack: StackQEMU, Message: "QEMU's own stack, as configured: " + qemuReach,
			Remedy: "passt would shut the host's loopback: user = \"auto\" under [network] in the configuration; " + trust}
	}
	err := a.works(ctx, n)
	switch {
	case err == nil:
		return Assessment{Stack: StackPasst, Message: "passt: " + passtReach, Remedy: trust}
	case a.c.Stack == StackPasst:
		return Assessment{Stack: StackPasst, Err: fmt.Errorf("passt is configured and cannot be used: %w", err)}
	}
	how := cmp.Or(banger.AsError(err).Remedy, "banger logs --vmm VM may say why it does not work")
	return Assessment{Stack: StackQEMU, Message: fmt.Sprintf("QEMU's own stack (%v): %s", err, qemuReach),
		Remedy: fmt.Sprintf("passt would shut the host's loopback: %s; %s", how, trust)}
}

// works says why passt cannot be used: now, or when a VM was last started.
func (a *Attacher) works(ctx context.Context, n network.NIC) error {
	if err := fits(n); err != nil {
		return err
	}
	net := a.net(n, 0)
	net.Ports = nil
	if err := a.c.Passt.Probe(ctx, net, n.Owner); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.broken
}
