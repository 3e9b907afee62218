package dmsnap_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banger"
	"banger/internal/storage"
	"banger/internal/storage/dmsnap"
)

// A pretendRoot removes devices of a sysfs that is a directory.
type pretendRoot struct {
	sys   string
	gone  bool // it does not run
	busy  bool // somebody has the devices open
	asked []banger.VMID
}

func (r *pretendRoot) dial(context.Context) (dmsnap.Root, error) {
	if r.gone {
		return nil, banger.Errorf(banger.NeedsRoot, "banger-root does not run").WithRemedy("sudo banger-root")
	}
	return rootOf{r}, nil
}

type rootOf struct{ *pretendRoot }

func (rootOf) ProbeDisk(context.Context, *os.File) error { return nil }
func (rootOf) AttachDisk(context.Context, string, banger.VMID, int64, *os.File, *os.File) (string, error) {
	return "/dev/null", nil
}
func (rootOf) DiskFill(context.Context, string, banger.VMID) (int64, int64, error) { return 0, 0, nil }
func (rootOf) Close() error                                                        { return nil }

func (r rootOf) DetachDisk(_ context.Context, tag string, id banger.VMID) error {
	r.asked = append(r.asked, id)
	if r.busy {
		return banger.Errorf(banger.Busy, "device or resource busy")
	}
	files, err := filepath.Glob(filepath.Join(r.sys, "block/dm-*/dm/uuid"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		own := fmt.Sprintf("BANGER-%d-%s-%s", os.Geteuid(), tag, id)
		if text := string(b[:len(b)-1]); text == own || text == own+"-origin" {
			os.RemoveAll(filepath.Dir(filepath.Dir(f)))
		}
	}
	return err
}

// device is one of the kernel's.
func (r *pretendRoot) device(t *testing.T, n int, uuid, name string) {
	t.Helper()
	dir := filepath.Join(r.sys, fmt.Sprintf("block/dm-%d/dm", n))
	must(t, os.MkdirAll(dir, 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "uuid"), []byte(uuid+"\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644))
}

func TestLeft(t *testing.T) {
	r := &pretendRoot{sys: t.TempDir(), gone: true}
	wanted := []banger.VMID{"11111111"}
	s := dmsnap.New(dmsnap.Config{Tag: tag, Dial: r.dial, Sys: r.sys, Wanted: func(context.Context) ([]banger.VMID, error) { return wanted, nil }})
	pending := func(want ...string) {
		t.Helper()
		if got, err := s.Pending(t.Context()); err != nil || !slices.Equal(got, want) {
			t.Errorf("pending: %v, %v; want %v", got, err, want)
		}
	}
	pending()
	must(t, s.Tend(t.Context()))
	own := fmt.Sprintf("BANGER-%d-%s-", os.Geteuid(), tag)
	for i, d := range [][2]string{
		{own + "11111111-origin", "runs-origin"}, {own + "11111111", "runs"},
		{own + "22222222-origin", "left-origin"}, {own + "22222222", "left"},
		{own + "33333333-origin", "half"}, // of an attach that was killed
		{fmt.Sprintf("BANGER-%d-%s-22222222", os.Geteuid()+1, tag), "another user's"},
		{fmt.Sprintf("BANGER-%d-cafe-22222222", os.Geteuid()), "another installation's"},
		{own + "2222", "odd"}, {"LVM-22222222", "lvm"}, {"", "none"},
	} {
		r.device(t, i, d[0], d[1])
	}
	pending("half", "left", "left-origin")
	must(t, s.Tend(t.Context())) // nobody can remove them now
	pending("half", "left", "left-origin")

	r.gone, r.busy = false, true
	if err := s.Tend(t.Context()); banger.CodeOf(err) != banger.Busy {
		t.Errorf("busy: %v", err)
	}
	r.busy, r.asked = false, nil
	must(t, s.Tend(t.Context()))
	pending()
	slices.Sort(r.asked)
	if !slices.Equal(r.asked, []banger.VMID{"22222222", "33333333"}) {
		t.Errorf("asked to detach %v", r.asked)
	}
	wanted = nil // it was stopped while banger-root did not run
	pending("runs", "runs-origin")
}

// Without banger-root a VM can be stopped and deleted, and its disk made new; to be
// grown the disk has to be nobody's.
func TestStoppedWithoutRoot(t *testing.T) {
	r := &pretendRoot{sys: t.TempDir()}
	base, d := pieces(t)
	wanted := []banger.VMID{d.VM}
	s := dmsnap.New(dmsnap.Config{Tag: tag, Dial: r.dial, Sys: r.sys, Wanted: func(context.Context) ([]banger.VMID, error) { return wanted, nil }})
	must(t, s.Create(t.Context(), base, d))
	r.device(t, 0, fmt.Sprintf("BANGER-%d-%s-%s", os.Geteuid(), tag, d.VM), "banger")
	for what, do := range map[string]func() error{
		"remove": func() error { return s.Remove(t.Context(), d) },
		"grow":   func() error { return s.Grow(t.Context(), base, d, 2*d.Size) },
	} {
		if err := do(); banger.CodeOf(err) != banger.Busy || len(r.asked) > 0 {
			t.Errorf("%s while it runs: %v, asked for %v", what, err, r.asked)
		}
	}
	r.gone = true
	must(t, s.Detach(t.Context(), d))
	wanted = nil
	if err := s.Grow(t.Context(), base, d, 2*d.Size); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("grow: %v", err)
	}
	r.gone = false
	must(t, s.Grow(t.Context(), base, d, 2*d.Size))
	r.device(t, 0, fmt.Sprintf("BANGER-%d-%s-%s", os.Geteuid(), tag, d.VM), "banger")
	r.gone = true
	must(t, s.Remove(t.Context(), d))
	if storage.Of(d, s) != nil {
		t.Error("its file is there")
	}
	// Where nobody knows what is wanted, it is an error.
	s = dmsnap.New(dmsnap.Config{Tag: tag, Dial: r.dial, Sys: r.sys})
	if err := s.Detach(t.Context(), d); banger.CodeOf(err) != banger.NeedsRoot {
		t.Errorf("detach: %v", err)
	}
}
