package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/crypto/ssh"
)

// workUUID is the one that byhand.sh gives the work disk's file system.
const workUUID = "0b0b0b0b-0b0b-4b0b-8b0b-0b0b0b0b0b0b"

// writeOwn writes what of an initrd is the VM's own, as whoever does it by hand
// would with cpio(1): the identity that the guest program wants, and the guest
// program. It returns the public half of the VM's host key.
func writeOwn(file, userKey, name string, m *model) (hostKey string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		return "", err
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", err
	}
	identity, err := json.Marshal(map[string]any{
		"version": 1, "vm": "0b0b0b0b", "launch": "0123456789abcdef", "hostname": name,
		"machine_id": fmt.Sprintf("%x", pub[:16]), "mac": m.mac,
		"address": m.addr + "/32", "gateway": m.gateway, "resolvers": []string{m.resolver},
		"host_key": string(pem.EncodeToMemory(block)), "authorized_keys": []string{userKey},
		"work_disk": workUUID,
	})
	if err != nil {
		return "", err
	}
	guest, err := os.ReadFile(m.guest)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	err = cpio.WriteRecords(w, []cpio.Record{
		cpio.Directory("banger", 0o700),
		cpio.StaticFile("banger/identity.json", string(identity), 0o600),
		cpio.StaticFile("init", string(guest), 0o755),
	})
	if err == nil {
		err = cpio.WriteTrailer(w)
	}
	for b.Len()%4 != 0 { // what follows is looked for at a multiple of 4
		b.WriteByte(0)
	}
	if err != nil {
		return "", fmt.Errorf("write initrd: %w", err)
	}
	return string(ssh.MarshalAuthorizedKey(sshPub)), os.WriteFile(file, b.Bytes(), 0o600)
}
