// Command licences fails when a module that Voltage links is under a licence
// that the makers of closed firmware cannot accept (GPL, LGPL, AGPL, SSPL), or
// has none that can be found.
package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run() error {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}", "./...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		module, dir, ok := strings.Cut(lines.Text(), " ")
		if !ok || seen[module] {
			continue
		}
		seen[module] = true
		name, err := licence(dir)
		if err != nil {
			return fmt.Errorf("%s: %w", module, err)
		}
		fmt.Printf("%-40s %s\n", module, name)
	}
	return lines.Err()
}

// licence reads the licence file of a module and names what it is.
func licence(dir string) (string, error) {
	for _, pattern := range []string{"LICEN[SC]E*", "COPYING*"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			continue
		}
		text, err := os.ReadFile(files[0])
		if err != nil {
			return "", err
		}
		flat := strings.ToLower(strings.Join(strings.Fields(string(text)), " "))
		for _, refused := range []string{"general public license", "server side public license"} {
			if strings.Contains(flat, refused) {
				return "", fmt.Errorf("%s has the text of a %s", files[0], refused)
			}
		}
		for _, known := range [][2]string{{"apache license", "Apache-2.0"}, {"permission is hereby granted, free of charge", "MIT"},
			{"redistribution and use in source and binary forms", "BSD"}, {"permission to use, copy, modify", "ISC"}} {
			if strings.Contains(flat, known[0]) {
				return known[1], nil
			}
		}
		return "", fmt.Errorf("%s is of no known licence", files[0])
	}
	return "", fmt.Errorf("no licence file in %s", dir)
}
