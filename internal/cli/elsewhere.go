package cli

import "github.com/spf13/cobra"

// elsewhere says how banger does what a flag of docker(1) or ssh(1) means, ""
// for one that is typed from no such habit. It is asked only where cmd has no
// flag of that name.
func elsewhere(cmd *cobra.Command, flag string) string {
	run := map[string]string{
		"-d": "a VM stays when its command has ended; to make one and go on: banger vm create",
		"-p": "ports: --publish 8080:80; see: banger run --help",
		"-v": "nothing of the host's is mounted into a VM; copy it: banger vm cp DIR VM:/srv",
		"-m": "memory: --memory 4GiB",
		"-h": "the name of the VM: --name",
	}
	ssh := map[string]string{
		"-L": tunnels, "-R": tunnels, "-D": tunnels, "-N": tunnels,
		"-o": tunnels, "-i": tunnels, "-p": tunnels, "-F": tunnels,
		"-l": "another user: banger exec -u USER VM -- COMMAND",
	}
	of := map[string]map[string]string{"run": run, "create": run, "ssh": ssh}[cmd.Name()]
	run["--detach"], run["--volume"], run["--mount"], run["--hostname"] = run["-d"], run["-v"], run["-v"], run["-h"]
	return of[flag]
}

const tunnels = "ssh(1) itself takes its flags: banger ssh-config install, then ssh -L 8080:localhost:80 VM.vm"
