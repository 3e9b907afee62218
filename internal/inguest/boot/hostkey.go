package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// sshDir is where OpenSSH's server has its keys.
const sshDir = "/etc/ssh"

// writeHostKey gives the image's own SSH server, if it has one, the key that
// this program's uses: whoever knows the VM by one port knows it by the other.
func writeHostKey(pem string) error {
	if _, err := os.Stat(sshDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	key, err := ssh.ParsePrivateKey([]byte(pem))
	if err != nil {
		return fmt.Errorf("read host key: %w", err)
	}
	file := filepath.Join(sshDir, "ssh_host_ed25519_key")
	return errors.Join(
		putFile(file, pem, 0o600),
		putFile(file+".pub", string(ssh.MarshalAuthorizedKey(key.PublicKey())), 0o644),
	)
}

// sshdFile keeps the image's own SSH server letting root in by a key, whatever its
// configuration or its distribution's default says: of two values the first holds,
// and drop-ins come before the rest.
const sshdFile = sshDir + "/sshd_config.d/10-banger.conf"

const sshdText = `# Written by banger when this VM was made; it is yours to change.
PermitRootLogin prohibit-password
PubkeyAuthentication yes
`

// writeSSHDropIn writes sshdFile where OpenSSH is, or may come to be.
func writeSSHDropIn() error {
	if _, err := os.Stat(sshDir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return putFile(sshdFile, sshdText, 0o644)
}
