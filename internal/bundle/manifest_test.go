package bundle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger"
	"banger/internal/bundle"
)

var digestA = strings.Repeat("a", 64)

// manifest returns a good one, changed by change.
func manifest(change func(*banger.Bundle)) banger.Bundle {
	b := banger.Bundle{Format: banger.BundleFormat, Builder: "test"}
	for _, k := range []banger.ArtifactKind{banger.KindKernel, banger.KindInitramfs, banger.KindModules, banger.KindImage} {
		b.Artifacts = append(b.Artifacts, banger.BundleArtifact{
			Kind: k, Name: "debian-12", File: string(k) + ".img", Size: 4, SHA256: digestA, Default: true, Release: "6.1.0-1-cloud-amd64",
		})
	}
	if change != nil {
		change(&b)
	}
	return b
}

func text(t *testing.T, b banger.Bundle) []byte {
	t.Helper()
	out, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestParse(t *testing.T) {
	first := func(change func(*banger.BundleArtifact)) func(*banger.Bundle) {
		return func(b *banger.Bundle) { change(&b.Artifacts[0]) }
	}
	for _, tt := range []struct {
		name, want string // part of the error; "" for none
		change     func(*banger.Bundle)
	}{
		{"good", "", nil},
		{"newer format", "format 2, this banger reads 1", func(b *banger.Bundle) { b.Format = 2 }},
		{"no format", "format 0", func(b *banger.Bundle) { b.Format = 0 }},
		{"no artifacts", "0 defaults of kind kernel", func(b *banger.Bundle) { b.Artifacts = nil }},
		{"no default", "0 defaults of kind kernel", first(func(a *banger.BundleArtifact) { a.Default = false })},
		{"two defaults", "2 defaults of kind image", func(b *banger.Bundle) {
			a := b.Artifacts[3]
			a.Name, a.File = "other", "other"
			b.Artifacts = append(b.Artifacts, a)
		}},
		{"same name", "a second image", func(b *banger.Bundle) {
			a := b.Artifacts[3]
			a.File, a.Default = "other", false
			b.Artifacts = append(b.Artifacts, a)
		}},
		{"same file", "named twice", first(func(a *banger.BundleArtifact) { a.File = "image.img" })},
		{"kind", `unknown kind "bios"`, first(func(a *banger.BundleArtifact) { a.Kind = "bios" })},
		{"path", "bad file name", first(func(a *banger.BundleArtifact) { a.File = "../vmlinuz" })},
		{"absolute path", "bad file name", first(func(a *banger.BundleArtifact) { a.File = "/boot/vmlinuz" })},
		{"dot", "bad file name", first(func(a *banger.BundleArtifact) { a.File = "." })},
		{"manifest itself", "bad file name", first(func(a *banger.BundleArtifact) { a.File = banger.BundleManifest })},
		{"empty name", "bad name", first(func(a *banger.BundleArtifact) { a.Name = "" })},
		{"escape sequence", "bad name", first(func(a *banger.BundleArtifact) { a.Name = "a\x1b[2J" })},
		{"option", "bad kernel release", first(func(a *banger.BundleArtifact) { a.Release = "-6.1" })},
		{"system", "bad operating system", first(func(a *banger.BundleArtifact) { a.OS = "Debian\n" })},
		{"short digest", "bad digest", first(func(a *banger.BundleArtifact) { a.SHA256 = "aa" })},
		{"upper-case digest", "bad digest", first(func(a *banger.BundleArtifact) { a.SHA256 = strings.ToUpper(digestA) })},
		{"size", "bad size", first(func(a *banger.BundleArtifact) { a.Size = -1 })},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := bundle.Parse(text(t, manifest(tt.change)))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParseIsStrict(t *testing.T) {
	good := string(text(t, manifest(nil)))
	for name, bad := range map[string]string{
		"unknown field": strings.Replace(good, `"builder"`, `"bilder"`, 1),
		"more":          good + "{}",
		"truncated":     good[:len(good)/2],
		"empty":         "",
		"no object":     "[]",
	} {
		if _, err := bundle.Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	_, err := bundle.Open(dir)
	wantCode(t, err, banger.NotFound, dir, "banger bundle build")
	name := filepath.Join(dir, banger.BundleManifest)
	write(t, name, string(text(t, manifest(nil)))[:100])
	_, err = bundle.Open(dir)
	wantCode(t, err, banger.HostUnready, name, "banger bundle build --output "+dir)
	write(t, name, string(text(t, manifest(nil))))
	b, err := bundle.Open(dir)
	if err != nil || b.Dir != dir {
		t.Errorf("%+v, %v", b, err)
	}
}

func FuzzParse(f *testing.F) {
	good, err := json.Marshal(manifest(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"artifacts":[{"kind":"kernel","file":"../../etc/passwd"}]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		b, err := bundle.Parse(in)
		if err != nil {
			return
		}
		for _, a := range b.Artifacts {
			if filepath.Base(a.File) != a.File || a.File == "." || a.File == ".." || !filepath.IsLocal(a.File) {
				t.Errorf("file %q", a.File)
			}
			if !banger.Digest("sha256:" + a.SHA256).Valid() {
				t.Errorf("digest %q", a.SHA256)
			}
		}
		again, err := bundle.Parse(text(t, b))
		if err != nil || len(again.Artifacts) != len(b.Artifacts) {
			t.Errorf("not accepted as written: %v", err)
		}
	})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code banger.Code, words ...string) {
	t.Helper()
	if banger.CodeOf(err) != code {
		t.Fatalf("error %v has code %q, want %q", err, banger.CodeOf(err), code)
	}
	e := banger.AsError(err)
	for _, word := range words {
		if !strings.Contains(e.Message+"\n"+e.Remedy, word) {
			t.Errorf("error %q, remedy %q: no %q", e.Message, e.Remedy, word)
		}
	}
}
