package handler

import (
	"context"
	"errors"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/op"
	"banger/internal/vm"
)

func createVM(h *Handler, req api.CreateRequest) (task, error) {
	c := vm.Create{
		Name: pointer(req.Name), Image: pointer(req.Image), Network: pointer(req.Network), Backend: pointer(req.Backend),
		CPUs: pointer(req.CPUs), Memory: pointer(req.Memory), Disk: pointer(req.Disk), WorkDisk: pointer(req.WorkDisk),
		Isolated: pointer(req.Isolated), NAT: pointer(req.NAT), Publish: pointer(req.Publish), Autostart: pointer(req.Autostart),
		AllowHost: pointer(req.AllowHost), Bundle: req.Bundle.Value, NoStart: req.NoStart, Root: vm.Offer(req.Root.Value),
	}
	if err := errors.Join(h.VMs.Check(c), checkDir(c.Bundle)); err != nil {
		return task{}, err
	}
	return task{req.Name.Value, func(ctx context.Context, rep *op.Reporter) (any, error) {
		return h.VMs.Create(ctx, c, rep)
	}}, nil
}

// onVM is an operation on a VM that exists: an unknown one is refused at once.
func (h *Handler) onVM(ref string, work func(context.Context, vm.Reporter) (banger.VM, error)) (task, error) {
	if _, err := h.VMs.Show(context.Background(), ref); err != nil {
		return task{}, err
	}
	return task{ref, func(ctx context.Context, rep *op.Reporter) (any, error) { return work(ctx, rep) }}, nil
}

func startVM(h *Handler, req api.VMRequest) (task, error) {
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Start(ctx, req.VM, rep)
	})
}

func stopVM(h *Handler, req api.StopRequest) (task, error) {
	timeout, err := seconds(req.Timeout)
	if err != nil {
		return task{}, err
	}
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Stop(ctx, req.VM, timeout, rep)
	})
}

func restartVM(h *Handler, req api.StopRequest) (task, error) {
	timeout, err := seconds(req.Timeout)
	if err != nil {
		return task{}, err
	}
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Restart(ctx, req.VM, timeout, rep)
	})
}

func killVM(h *Handler, req api.VMRequest) (task, error) {
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Kill(ctx, req.VM, rep)
	})
}

func resetVM(h *Handler, req api.VMRequest) (task, error) {
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Reset(ctx, req.VM, rep)
	})
}

func deleteVM(h *Handler, req api.DeleteRequest) (task, error) {
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		return h.VMs.Delete(ctx, req.VM, req.Force, rep)
	})
}

func waitVM(h *Handler, req api.WaitRequest) (task, error) {
	if err := vm.CheckWait(req.For); err != nil {
		return task{}, err
	}
	timeout, err := seconds(req.Timeout)
	if err != nil {
		return task{}, err
	}
	if timeout == nil {
		timeout = new(time.Duration)
	}
	return h.onVM(req.VM, func(ctx context.Context, rep vm.Reporter) (banger.VM, error) {
		step, began := "wait until "+req.For, time.Now()
		rep.Step(step)
		v, err := h.VMs.Wait(ctx, req.VM, req.For, *timeout)
		if err == nil {
			rep.StepDone(step, time.Since(began))
		}
		return v, err
	})
}

func (h *Handler) setVM(ctx context.Context, req api.SetRequest) (banger.VM, error) {
	done, err := h.Ops.Attach(api.VMSet, req.VM) // no daemon is replaced in the middle
	if err != nil {
		return banger.VM{}, err
	}
	defer done()
	return h.VMs.Set(ctx, req.VM, vm.Change{
		CPUs: pointer(req.CPUs), Memory: pointer(req.Memory), Disk: pointer(req.Disk), WorkDisk: pointer(req.WorkDisk), Network: pointer(req.Network), Backend: pointer(req.Backend),
		Name: pointer(req.Name), Isolated: pointer(req.Isolated), NAT: pointer(req.NAT), Publish: pointer(req.Publish), Autostart: pointer(req.Autostart),
		AllowHost:  pointer(req.AllowHost),
		AddPublish: pointer(req.AddPublish), Unpublish: pointer(req.Unpublish),
	})
}

func (h *Handler) listVMs(ctx context.Context, _ none) ([]banger.VM, error) { return h.VMs.List(ctx) }

func (h *Handler) showVM(ctx context.Context, req api.VMRequest) (banger.VM, error) {
	return h.VMs.Show(ctx, req.VM)
}

func (h *Handler) access(ctx context.Context, req api.VMRequest) (api.Access, error) {
	a, err := h.VMs.Access(ctx, req.VM)
	if err != nil {
		return api.Access{}, err
	}
	return api.Access{
		VM: a.VM, Host: a.SSH.Addr().String(), Port: int(a.SSH.Port()), User: a.User,
		IdentityFile: a.IdentityFile, HostPublicKey: a.HostPublicKey,
	}, nil
}

func pointer[T any](o api.Optional[T]) *T {
	if !o.Set {
		return nil
	}
	return &o.Value
}

// maxSeconds keeps a duration from overflowing: ten years.
const maxSeconds = 10 * 365 * 24 * 3600

func seconds(o api.Optional[float64]) (*time.Duration, error) {
	if !o.Set {
		return nil, nil
	}
	if o.Value < 0 || o.Value > maxSeconds {
		return nil, banger.Errorf(banger.Invalid, "timeout of %g seconds: it must be 0 or more, and at most ten years", o.Value)
	}
	d := time.Duration(o.Value * float64(time.Second))
	return &d, nil
}
