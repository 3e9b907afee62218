package vmcmd

import (
	"context"

	"banger"
	"banger/internal/api/client"
)

// A starting asks the daemon for an operation on a VM.
type starting func(context.Context) (*client.Op[banger.VM], error)

// onInterrupt is what becomes of an operation when the user presses Ctrl-C.
type onInterrupt int

const (
	undo  onInterrupt = iota // the daemon is asked to take back what it began
	leave                    // it goes on without us: half of it would be worse
	cease                    // it ends, and has changed nothing
)

// interrupted is how an operation ends that the user stopped; where it was then
// is of no use to anybody.
var interrupted = &banger.Error{
	Code: banger.Canceled, Message: "interrupted; what was begun is taken back", Err: context.Canceled,
}

// follow starts an operation and shows its progress until it has ended; the
// result is the VM as it then is.
//
// The operation is the daemon's: only a Ctrl-C, which ends ctx, stops it, and
// then the answer is awaited, so that nothing is left behind when we return.
//
// An operation that needs banger-root is repeated once that runs.
func (e Env) follow(ctx context.Context, what onInterrupt, start starting) (banger.VM, error) {
	vm, err := e.once(ctx, what, start)
	if banger.CodeOf(err) != banger.NeedsRoot || e.StartRoot == nil {
		return vm, err
	}
	if err := e.StartRoot(ctx, err.Error()); err != nil {
		return vm, err
	}
	return e.once(ctx, what, start)
}

func (e Env) once(ctx context.Context, what onInterrupt, start starting) (banger.VM, error) {
	if err := ctx.Err(); err != nil {
		return banger.VM{}, err
	}
	life := context.WithoutCancel(ctx)
	op, err := start(life)
	if err != nil {
		return banger.VM{}, err
	}
	if what != leave {
		defer context.AfterFunc(ctx, func() {
			if what == undo {
				e.IO.Note("stopping, and taking back what was begun")
			}
			_ = op.Cancel(life) // if that fails, Wait will tell how it ended
		})()
		vm, err := op.Wait(life, e.Report)
		switch {
		case banger.CodeOf(err) != banger.Canceled || ctx.Err() == nil:
		case what == undo:
			err = interrupted
		default:
			err = &banger.Error{Code: banger.Canceled, Message: "interrupted; nothing was changed", Err: context.Canceled}
		}
		return vm, err
	}
	vm, err := op.Wait(ctx, e.Report)
	if err != nil && ctx.Err() != nil {
		return vm, &banger.Error{
			Code: banger.Canceled, Message: "interrupted, but the daemon goes on with it",
			Remedy: "see how it ends: banger vm list", Err: err,
		}
	}
	return vm, err
}
