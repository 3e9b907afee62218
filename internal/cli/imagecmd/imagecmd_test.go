package imagecmd_test

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"banger"
	"banger/internal/api"
	"banger/internal/cli/imagecmd"
	"banger/internal/cli/streams"
)

// fake is a daemon with these images.
type fake []banger.Image

func (f fake) ListImages(context.Context) ([]banger.Image, error) { return f, nil }

func (f fake) ShowImage(_ context.Context, r api.ImageRequest) (banger.Image, error) {
	for _, i := range f {
		if i.Name == r.Image || i.ID == r.Image {
			return i, nil
		}
	}
	return banger.Image{}, banger.Errorf(banger.NotFound, "no image %q", r.Image)
}

func (f fake) DeleteImage(ctx context.Context, r api.ImageRequest) (banger.Image, error) {
	return f.ShowImage(ctx, r)
}

var images = fake{
	{
		ID: "0123456789ab", Name: "debian-12", Default: true, OS: "Debian\x1b 12", Release: "6.1",
		Rootfs:    banger.Artifact{Digest: "sha256:00", Size: 1 << 30},
		CreatedAt: time.Date(2025, 1, 2, 3, 4, 5, 0, time.Local),
	},
	{ID: "ba9876543210", OS: "Debian 12", CreatedAt: time.Date(2025, 1, 2, 3, 4, 5, 0, time.Local)},
}

func run(t *testing.T, quiet bool, args string) (out string, err error) {
	t.Helper()
	s, _, o, _ := streams.Test()
	s.Quiet = quiet
	connect := func(context.Context) (imagecmd.Client, error) { return images, nil }
	cmd := imagecmd.New(imagecmd.Env{IO: s, Connect: connect, Find: connect})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(o)
	cmd.SetErr(o)
	cmd.SetArgs(strings.Fields(args))
	err = cmd.ExecuteContext(t.Context())
	return o.String(), err
}

func TestList(t *testing.T) {
	out, err := run(t, false, "list")
	want := `NAME       ID            OS             KERNEL  SIZE  CREATED              DEFAULT
debian-12  0123456789ab  Debian\x1b 12  6.1     1GiB  2025-01-02 03:04:05  yes
-          ba9876543210  Debian 12      -       0B    2025-01-02 03:04:05  -
`
	if err != nil || out != want {
		t.Errorf("%v\n%s\nwant\n%s", err, out, want)
	}
	if out, err := run(t, true, "ls"); err != nil || out != "debian-12\nba9876543210\n" {
		t.Errorf("names only: %v, %q", err, out)
	}
	out, err = run(t, false, "list -o json")
	var got fake
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || len(got) != 2 || got[0].OS != images[0].OS {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestShow(t *testing.T) {
	out, err := run(t, false, "show debian-12 -o json")
	var got banger.Image
	if err != nil || json.Unmarshal([]byte(out), &got) != nil || got.ID != images[0].ID || !reflect.DeepEqual(got.Rootfs, images[0].Rootfs) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(t, false, "show debian-12"); err != nil || !strings.Contains(out, "sha256:00 (1GiB)") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := run(t, false, "show nope"); banger.CodeOf(err) != banger.NotFound {
		t.Errorf("got %v", err)
	}
}

func TestDelete(t *testing.T) {
	out, err := run(t, false, "delete debian-12 nope ba9876543210")
	if out != "debian-12\nba9876543210\n" || banger.CodeOf(err) != banger.NotFound {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := run(t, false, "delete"); err == nil {
		t.Error("deleted nothing without a word")
	}
}

func TestCompletion(t *testing.T) {
	if out, err := run(t, false, "__complete delete d"); err != nil || !strings.HasPrefix(out, "debian-12\nba9876543210\n:4\n") {
		t.Errorf("%q, %v", out, err)
	}
}
