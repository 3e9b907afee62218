package storage_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"banger"
	"banger/internal/storage"
)

// pretend is a strategy that works or not, and has made a disk or not.
type pretend struct {
	storage.Strategy
	name   string
	format banger.DiskFormat
	broken error
	made   error
}

func (p pretend) Name() string                        { return p.name }
func (p pretend) Format() banger.DiskFormat           { return p.format }
func (p pretend) Probe(context.Context, string) error { return p.broken }
func (p pretend) Size(storage.Disk) (int64, error)    { return 1, p.made }

var (
	errRoot = banger.Errorf(banger.NeedsRoot, "banger-root does not run").WithRemedy("sudo banger-root")
	errFS   = banger.Errorf(banger.HostUnready, "nothing is shared").WithRemedy("use btrfs")
)

func TestChoose(t *testing.T) {
	dm := pretend{name: "dmsnap", format: banger.FormatRaw}
	noDM, noReflink := dm, pretend{name: "reflink", format: banger.FormatRaw, broken: errFS}
	noDM.broken = errRoot
	overlay := pretend{name: "overlay", format: banger.FormatQCOW2}
	full := pretend{name: "copy", format: banger.FormatRaw, broken: errors.New("no room")}
	raw, both := []banger.DiskFormat{banger.FormatRaw}, []banger.DiskFormat{banger.FormatRaw, banger.FormatQCOW2}
	for name, c := range map[string]struct {
		boots []banger.DiskFormat
		in    []storage.Strategy
		want  string
	}{
		"the first":                {both, []storage.Strategy{dm, overlay}, "dmsnap"},
		"the first that works":     {both, []storage.Strategy{noDM, noReflink, overlay, full}, "overlay"},
		"the first that is booted": {raw, []storage.Strategy{overlay, dm}, "dmsnap"},
	} {
		s, err := storage.Choose(t.Context(), "/d", c.boots, c.in...)
		if err != nil || s.Name() != c.want {
			t.Errorf("%s: %v %v, want %s", name, s, err, c.want)
		}
	}
	_, err := storage.Choose(t.Context(), "/d", raw, noDM, noReflink, overlay, full)
	for _, why := range []string{"/d", "dmsnap: banger-root does not run", "reflink: nothing is shared", "overlay: the backend does not boot qcow2", "copy: no room"} {
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v does not say %q", err, why)
		}
	}
	if e := banger.AsError(err); e == nil || e.Remedy != "sudo banger-root" || !errors.Is(err, errFS) {
		t.Errorf("%+v", e)
	}
}

// The one that made the disk, whether it would make one today or not; one whose
// disk is broken, too, so that no other makes a second one beside it.
func TestOf(t *testing.T) {
	none := banger.Errorf(banger.NotFound, "no disk")
	a := pretend{name: "a", made: none}
	b := pretend{name: "b", broken: errFS}
	c := pretend{name: "c", made: errors.New("broken")}
	for name, x := range map[string]struct {
		in   []storage.Strategy
		want string
	}{
		"none":   {[]storage.Strategy{a, a}, ""},
		"one":    {[]storage.Strategy{a, b, c}, "b"},
		"broken": {slices.Repeat([]storage.Strategy{a, c}, 2), "c"},
	} {
		s := storage.Of(storage.Disk{}, x.in...)
		if got, ok := s.(pretend); ok != (x.want != "") || got.name != x.want {
			t.Errorf("%s: %v", name, s)
		}
	}
}
