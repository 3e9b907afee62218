package firecracker

import (
	"context"
	"time"

	"banger/internal/host"
	"banger/internal/vmm"
)

// Inner parts, for tests in the external package.
var (
	Argv         = argv
	Beginning    = beginning
	IsHalted     = isHalted
	ConsoleOf    = consoleOf
	HowEnded     = howEnded
	ParseVersion = func(out string) (string, string, error) {
		r, err := parseVersion(out)
		return r.String(), r.warning(), err
	}
	HasVSock = func(out string) (bool, error) {
		r, err := parseVersion(out)
		return r.vsock(), err
	}
	CutFile = cutFile
	MaxTail = int64(maxTail)
)

// An End is a process's.
type End = host.End

// PretendKVM makes KVM work, as far as a stand-in needs it.
func (b *Backend) PretendKVM() { b.probe = func(context.Context) error { return nil } }

// SetLimits sets how long Start and Adopt wait for answers.
func (b *Backend) SetLimits(answer, patience time.Duration) { b.answer, b.patience = answer, patience }

// Cmdline is the guest kernel's arguments.
func Cmdline(m vmm.Machine) string { return cmdline(m) }
