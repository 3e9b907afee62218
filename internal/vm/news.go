package vm

import (
	"context"

	"banger"
)

// News returns a channel that is closed as soon as anything is another that List
// tells: a record, a VMM that began or ended, what is being done with a VM. Whoever
// took it before it looked knows by it whether what it saw still holds.
func (m *Manager) News() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.news
}

func (m *Manager) written() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed()
}

// A newsStore makes news of every write.
type newsStore struct {
	Store
	written func()
}

func (s newsStore) CreateVM(ctx context.Context, r banger.Record, lease func([]banger.Lease) (banger.Lease, error)) (banger.Record, error) {
	defer s.written()
	return s.Store.CreateVM(ctx, r, lease)
}

func (s newsStore) UpdateVM(ctx context.Context, id banger.VMID, change func(*banger.Record) error) (banger.Record, error) {
	defer s.written()
	return s.Store.UpdateVM(ctx, id, change)
}

func (s newsStore) DeleteVM(ctx context.Context, id banger.VMID) error {
	defer s.written()
	return s.Store.DeleteVM(ctx, id)
}
