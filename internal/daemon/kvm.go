package daemon

import (
	"context"
	"errors"

	"banger/internal/privileged/client"
	"banger/internal/vmm/kvm"
)

// A kvmGranter asks banger-root to let this user open /dev/kvm. It does not
// start one: only who can be asked for a password does.
type kvmGranter struct{ uid int }

// granter is nil for root, whose VMMs have users of their own: they open the
// device by its group, or not at all.
func granter(uid int) kvm.Granter {
	if uid == 0 {
		return nil
	}
	return kvmGranter{uid}
}

func (g kvmGranter) AllowKVM(ctx context.Context) error {
	return g.ask(ctx, func(c *client.Client) error { return c.AllowKVM(ctx) })
}

func (g kvmGranter) RevokeKVM(ctx context.Context) error {
	return g.ask(ctx, func(c *client.Client) error { return c.RevokeKVM(ctx) })
}

func (g kvmGranter) ask(ctx context.Context, what func(*client.Client) error) error {
	c, err := client.Dial(ctx, g.uid)
	if err != nil {
		return err
	}
	return errors.Join(what(c), c.Close())
}
