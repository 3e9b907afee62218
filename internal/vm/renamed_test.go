package vm_test

import (
	"context"
	"testing"

	"banger"
	"banger/internal/vm"
)

// A VM that got another name while a change waited for its lock is not the one
// that was meant, whatever is to be done with it; an ID goes on meaning it.
func TestRenamedMeanwhile(t *testing.T) {
	type verb func(ctx context.Context, m *vm.Manager, ref string) error
	for name, do := range map[string]verb{
		"start": func(ctx context.Context, m *vm.Manager, ref string) error { return second(m.Start(ctx, ref, quiet{})) },
		"stop": func(ctx context.Context, m *vm.Manager, ref string) error {
			return second(m.Stop(ctx, ref, nil, quiet{}))
		},
		"restart": func(ctx context.Context, m *vm.Manager, ref string) error {
			return second(m.Restart(ctx, ref, nil, quiet{}))
		},
		"reset": func(ctx context.Context, m *vm.Manager, ref string) error { return second(m.Reset(ctx, ref, quiet{})) },
		"set": func(ctx context.Context, m *vm.Manager, ref string) error {
			return second(m.Set(ctx, ref, vm.Change{CPUs: ptr(1)}))
		},
		"delete": func(ctx context.Context, m *vm.Manager, ref string) error {
			return second(m.Delete(ctx, ref, true, quiet{}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			stopped(t, w)
			rec, err := w.store.FindVM(t.Context(), "web")
			if err != nil {
				t.Fatal(err)
			}
			before := w.String()
			meanwhile := &renaming{w: w}
			w.configure = func(c *vm.Config) { meanwhile.Store, c.Store = c.Store, meanwhile }
			m := w.manager(nil)
			meanwhile.to = "db"
			if err := do(t.Context(), m, "web"); banger.CodeOf(err) != banger.NotFound {
				t.Errorf("by its old name: %v", err)
			}
			meanwhile.to = "web"
			if err := second(m.Set(t.Context(), "db", vm.Change{})); banger.CodeOf(err) != banger.NotFound {
				t.Errorf("back: %v", err)
			}
			if after := w.String(); after != before {
				t.Errorf("something was done to it:\n%s\nwas\n%s", after, before)
			}
			meanwhile.to = "db"
			if err := do(t.Context(), m, string(rec.ID)); err != nil {
				t.Errorf("by its ID: %v", err)
			}
		})
	}
}

func second(_ banger.VM, err error) error { return err }

// renaming is a store in which a VM is given another name right after it was
// looked for.
type renaming struct {
	vm.Store
	w  *world
	to string
}

func (r *renaming) FindVM(ctx context.Context, ref string) (banger.Record, error) {
	rec, err := r.Store.FindVM(ctx, ref)
	if err == nil {
		_, err = r.w.store.UpdateVM(ctx, rec.ID, func(rec *banger.Record) error { rec.Spec.Name = r.to; return nil })
	}
	return rec, err
}
