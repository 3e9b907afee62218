package vm

import (
	"errors"
	"fmt"
	"strings"

	"banger"
)

// A Create is what a user asks for; nil means the default.
type Create struct {
	Name, Image, Network, Backend *string
	CPUs                          *int
	Memory, Disk, WorkDisk        *int64
	Isolated, NAT, Autostart      *bool
	Publish                       *[]banger.Publish
	AllowHost                     *[]banger.HostPort
	Bundle                        string // directory of a runtime bundle, "": search
	NoStart                       bool
	Root                          Offer
}

// A Change is what a user wants of a VM; nil stays. Its name, NAT, whether it starts
// with the daemon and, in mode routed, its ports, whether it is isolated and which ports
// of the host it is let to may change while it runs, all else only while it is stopped.
type Change struct {
	CPUs         *int
	Memory, Disk *int64
	WorkDisk     *int64
	Network      *string
	Backend      *string
	Name         *string
	Isolated     *bool
	NAT          *bool
	Autostart    *bool
	Publish      *[]banger.Publish  // in the place of all
	AddPublish   *[]banger.Publish  // besides
	Unpublish    *[]banger.HostPort // none of these any more
	AllowHost    *[]banger.HostPort // in the place of all
}

// The least and most that a spec may ask for.
const (
	minMemory = 128 << 20 // Debian boots; with less its systemd does not come up
	maxDisk   = 16 << 40  // ext4's limit with 4 KiB blocks and what resizing was tried to
	maxCPUs   = 64
)

func invalid(format string, a ...any) *banger.Error {
	return banger.Errorf(banger.Invalid, format, a...)
}

// checkCPUs, checkMemory and checkDisk hold one value each against the limits.
func checkCPUs(n int) error {
	switch {
	case n <= 0:
		return invalid("cpus must be at least 1, not %d", n).WithRemedy("leave it out for the default, or give a positive number")
	case n > maxCPUs:
		return invalid("cpus must be at most %d, not %d", maxCPUs, n).WithRemedy("ask for fewer, such as --cpu %d", maxCPUs)
	}
	return nil
}

func (m *Manager) checkMemory(n int64) error {
	switch {
	case n <= 0:
		return invalid("memory must be more than 0, not %d bytes", n).WithRemedy("leave it out for the default, or give a size such as 1GiB")
	case n < minMemory:
		return invalid("memory must be at least %s, not %s", banger.FormatSize(minMemory), banger.FormatSize(n)).
			WithRemedy("ask for more, such as --memory %s", banger.FormatSize(minMemory))
	}
	host, err := m.c.Limits.HostMemory()
	if err != nil {
		return fmt.Errorf("read the host's memory: %w", err)
	}
	if n > host {
		return invalid("memory %s is more than this host has (%s)", banger.FormatSize(n), banger.FormatSize(host)).
			WithRemedy("ask for less, such as --memory 1GiB")
	}
	return nil
}

func checkDisk(n, least int64) error {
	switch {
	case n <= 0:
		return invalid("disk must be more than 0, not %d bytes", n).WithRemedy("leave it out for the default, or give a size such as 10GiB")
	case n > maxDisk:
		return invalid("disk must be at most %s, not %s", banger.FormatSize(maxDisk), banger.FormatSize(n)).
			WithRemedy("ask for less, such as --disk 100GiB: it can grow later")
	case n < least:
		return invalid("disk %s is smaller than its image (%s)", banger.FormatSize(n), banger.FormatSize(least)).
			WithRemedy("ask for at least %s", banger.FormatSize(least))
	}
	return nil
}

// network returns the mode that a request means; auto is chosen later.
func (m *Manager) network(ask string) (banger.NetworkMode, error) {
	mode := banger.NetworkMode(ask)
	if mode == banger.NetworkAuto {
		return mode, nil
	}
	var have []string
	for _, n := range m.c.Nets {
		if n.Mode() == mode {
			return mode, nil
		}
		have = append(have, string(n.Mode()))
	}
	return "", invalid("no network mode %q", ask).WithRemedy("use auto or %s", strings.Join(have, ", "))
}

// Check holds a request against all limits that need nothing but the request.
func (m *Manager) Check(c Create) error {
	_, err := m.resolve(c)
	return err
}

// resolve checks a request and fills in the defaults that need no image.
func (m *Manager) resolve(c Create) (banger.Spec, error) {
	if err := checkOffer(c.Root); err != nil {
		return banger.Spec{}, err
	}
	s := banger.Spec{
		Image:   orElse(c.Image, m.c.Image),
		Backend: orElse(c.Backend, m.c.Backend),
		CPUs:    orElse(c.CPUs, m.c.Limits.CPUs),
		Memory:  orElse(c.Memory, m.c.Limits.Memory),
		Disk:    orElse(c.Disk, m.c.Limits.Disk),

		Isolated:  orElse(c.Isolated, false),
		Publish:   orElse(c.Publish, []banger.Publish{}),
		AllowHost: orElse(c.AllowHost, []banger.HostPort{}),
		Autostart: orElse(c.Autostart, false),
	}
	if c.Name != nil {
		if err := banger.ValidName(*c.Name); err != nil {
			return s, err
		}
		s.Name = *c.Name
	}
	if c.Image != nil && *c.Image == "" {
		return s, invalid("the image's name is empty").WithRemedy("leave it out for the default, or see banger image list")
	}
	if err := checkCPUs(s.CPUs); err != nil {
		return s, err
	}
	if err := m.checkMemory(s.Memory); err != nil {
		return s, err
	}
	if err := checkDisk(s.Disk, 0); err != nil {
		return s, err
	}
	var err error
	if s.WorkDisk, err = checkWorkDisk(orElse(c.WorkDisk, m.c.Limits.WorkDisk)); err != nil {
		return s, err
	}
	s.Network, err = m.network(string(m.networkOf(c)))
	if err != nil {
		return s, err
	}
	s.NAT = m.nat(s.Network, c.NAT)
	return s, m.checkNetwork(s)
}

// checkNetwork holds what s wants of its network against what its mode can do; where
// that is auto yet, against what any of them can.
func (m *Manager) checkNetwork(s banger.Spec) error {
	return errors.Join(m.checkPublish(s), checkNAT(s), checkAllow(s))
}

func orElse[T any](p *T, v T) T {
	if p != nil {
		return *p
	}
	return v
}
