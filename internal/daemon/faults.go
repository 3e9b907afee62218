//go:build faults

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"banger"
	"banger/internal/steps"
	"banger/internal/vm"
)

// faultsEnv names the socket of a test that wants to be asked at each point of
// a VM's life: a JSON object per connection, {"vm", "step", "at"}, answered
// with {"fail", "limit_ns"}. Until the answer the daemon stands still, and the
// test does to it, and to the host, what it likes.
const faultsEnv = "BANGER_FAULTS"

// Points besides the steps' own: a write of a record, and a deadline.
const (
	stepRecord  = "record"
	beforeWrite = "before write"
	afterWrite  = "after write"
	limitOf     = "limit of " // and the phase
)

// instrumented lets a test in, if there is one.
func instrumented(c vm.Config) vm.Config {
	socket := os.Getenv(faultsEnv)
	if socket == "" {
		return c
	}
	os.Remove(socket + insideSuffix) // of a daemon that was killed
	if err := tellInside(socket + insideSuffix); err != nil {
		panic(err)
	}
	f := faults{socket}
	c.Events = 128 // or what is kept of many lives would hide what is lost of each
	c.Store = faultyStore{c.Store, f}
	c.Hook = func(id banger.VMID, step string, at steps.Phase) error { return f.at(id, step, string(at)) }
	c.Bound = func(step string, at steps.Phase, own time.Duration) time.Duration {
		a, err := f.ask("", step, limitOf+string(at))
		if err != nil || a.Limit == 0 {
			return own
		}
		return a.Limit
	}
	return c
}

// faults asks a test what to do.
type faults struct{ socket string }

type answer struct {
	Fail  string        `json:"fail"`
	Limit time.Duration `json:"limit_ns"`
}

func (f faults) ask(id banger.VMID, step, at string) (a answer, err error) {
	c, err := net.Dial("unix", f.socket)
	if err != nil {
		return a, fmt.Errorf("ask the test: %w", err)
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(map[string]string{"vm": string(id), "step": step, "at": at}); err != nil {
		return a, fmt.Errorf("ask the test: %w", err)
	}
	if err := json.NewDecoder(c).Decode(&a); err != nil {
		return a, fmt.Errorf("ask the test: %w", err)
	}
	return a, nil
}

func (f faults) at(id banger.VMID, step, at string) error {
	a, err := f.ask(id, step, at)
	if err == nil && a.Fail != "" {
		err = errors.New(a.Fail)
	}
	return err
}

// A faultyStore asks before and after each write of a record.
type faultyStore struct {
	vm.Store
	f faults
}

func (s faultyStore) around(id banger.VMID, write func() error) error {
	if err := s.f.at(id, stepRecord, beforeWrite); err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	return s.f.at(id, stepRecord, afterWrite)
}

func (s faultyStore) CreateVM(ctx context.Context, r banger.Record, lease func([]banger.Lease) (banger.Lease, error)) (made banger.Record, err error) {
	err = s.around(r.ID, func() error {
		made, err = s.Store.CreateVM(ctx, r, lease)
		return err
	})
	return made, err
}

func (s faultyStore) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (r banger.Record, err error) {
	err = s.around(id, func() error {
		r, err = s.Store.UpdateVM(ctx, id, change)
		return err
	})
	return r, err
}

func (s faultyStore) DeleteVM(ctx context.Context, id banger.VMID) error {
	return s.around(id, func() error { return s.Store.DeleteVM(ctx, id) })
}
