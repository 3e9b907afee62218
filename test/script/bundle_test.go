package script

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite" // rows looks into the database itself

	"banger"
)

// tinybundle DIR: makes a bundle that can be registered and not booted.
func tinyBundle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tinybundle DIR")
	}
	ts.Check(makeBundle(ts.MkAbs(args[0])))
}

func makeBundle(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b := banger.Bundle{Format: banger.BundleFormat, CreatedAt: time.Now().UTC(), Builder: "test"}
	for _, a := range []struct {
		kind banger.ArtifactKind
		file string
		size int64
	}{
		{banger.KindKernel, "vmlinuz", 4096},
		{banger.KindInitramfs, "initramfs.img", 512},
		{banger.KindModules, "modules.ext4", 8192},
		{banger.KindImage, "tiny.ext4", 1 << 20},
	} {
		content := make([]byte, a.size)
		copy(content, a.file)
		if err := os.WriteFile(filepath.Join(dir, a.file), content, 0o444); err != nil {
			return err
		}
		sum := sha256.Sum256(content)
		made := banger.BundleArtifact{
			Kind: a.kind, Name: "tiny", File: a.file, Size: a.size, SHA256: hex.EncodeToString(sum[:]),
			Default: true, Release: "6.1.0-test", OS: "",
			Provenance: banger.Provenance{Distribution: "none", Tool: "test", Packages: map[string]string{}},
		}
		if a.kind == banger.KindImage {
			made.OS = "Tiny"
		}
		b.Artifacts = append(b.Artifacts, made)
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, banger.BundleManifest), text, 0o444)
}

// rows TABLE N: the table of the script's database has N rows.
func rows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: rows TABLE N")
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(ts.Getenv("STATE"), "banger.db")+"?mode=ro")
	ts.Check(err)
	defer db.Close()
	var n int
	ts.Check(db.QueryRow(fmt.Sprintf("SELECT count(*) FROM %q", args[0])).Scan(&n))
	if strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d rows, want %s", args[0], n, args[1])
	}
}
