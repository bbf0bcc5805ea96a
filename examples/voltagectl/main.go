// Command voltagectl is the operator's tool.
//
//	voltagectl scripts list         the scripts of this build
//	voltagectl scripts dump NAME    a script as Redis runs it, for redis-cli --eval
package main

import (
	"fmt"
	"os"

	"github.com/voltageems/voltage/scripts"
)

const usage = `usage:
  voltagectl scripts list
  voltagectl scripts dump NAME
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "voltagectl:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "scripts" && args[1] == "list":
		list, err := scripts.Scripts()
		if err != nil {
			return err
		}
		for _, s := range list {
			fmt.Printf("%-16s %-20s %s\n", s.Name, s.Version, s.SHA)
		}
		return nil
	case len(args) == 3 && args[0] == "scripts" && args[1] == "dump":
		text, err := scripts.Dump(args[2])
		if err != nil {
			return err
		}
		_, err = fmt.Print(text)
		return err
	}
	return fmt.Errorf("unknown command\n%s", usage)
}
