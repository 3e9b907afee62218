package guest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"banger"
)

// NewKey makes an ed25519 key: the private one as PEM in OpenSSH's format, and
// the public one.
func NewKey() (private string, public ssh.PublicKey, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, fmt.Errorf("make key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "banger")
	if err != nil {
		return "", nil, fmt.Errorf("encode key: %w", err)
	}
	public, err = ssh.NewPublicKey(pub)
	if err != nil {
		return "", nil, fmt.Errorf("encode key: %w", err)
	}
	return string(pem.EncodeToMemory(block)), public, nil
}

// AuthorizedKey returns pub as one line in authorized_keys format, without the
// line's end.
func AuthorizedKey(pub ssh.PublicKey) string {
	return strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(pub)), "\n")
}

// PublicKey returns the public half of a private key in PEM, as NewKey made it.
func PublicKey(private string) (ssh.PublicKey, error) {
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	return signer.PublicKey(), nil
}

// maxKeyFile bounds a private key's file, bytes.
const maxKeyFile = 64 << 10

// LoadOrCreateKey returns the key in the file at path, which it makes (0600)
// where there is none. Two that make it at once get the same one. A file that
// others than its owner may read or write is refused: its key is no secret.
func LoadOrCreateKey(path string) (ssh.Signer, error) {
	signer, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return signer, err
	}
	private, _, err := NewKey()
	if err != nil {
		return nil, err
	}
	if err := writeNew(path, private); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return loadKey(path)
}

func loadKey(path string) (ssh.Signer, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if !st.Mode().IsRegular() || st.Mode().Perm()&0o077 != 0 {
		return nil, banger.Errorf(banger.HostUnready, "key %s has mode %s: others may use it", path, st.Mode()).
			WithRemedy("chmod 600 %s", path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		return nil, banger.Errorf(banger.HostUnready, "read key %s: %w", path, err)
	}
	return signer, nil
}

// writeNew makes the file at path with this content, whole or not at all; it
// fails with fs.ErrExist where there is one. A link, unlike a rename, does not
// replace what another has made meanwhile.
func writeNew(path, content string) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-key-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}
