// Says what a container was given, the way a Go program sees it: arguments, environment, files, clock, exit code. The Go
// runtime brings its own scheduler and collector, so this is also a guest that is not small. A preview 1 command.
//
//	report [--json FILE] [--cat FILE] [--exit CODE] [WORD…]
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	fmt.Printf("go %s/%s\n", runtime.GOOS, runtime.GOARCH)
	for _, variable := range os.Environ() {
		if strings.HasPrefix(variable, "REPORT_") {
			fmt.Println("env", variable)
		}
	}
	code := 0
	arguments := os.Args[1:]
	for i := 0; i < len(arguments); i++ {
		next := func() string {
			i++
			if i == len(arguments) {
				fail("%s needs a value", arguments[i-1])
			}
			return arguments[i]
		}
		switch arguments[i] {
		case "--json":
			readJSON(next())
		case "--cat":
			cat(next())
		case "--exit":
			number, err := strconv.Atoi(next())
			if err != nil {
				fail("--exit: %v", err)
			}
			code = number
		default:
			fmt.Println("arg", i+1, arguments[i])
		}
	}
	fmt.Println("sum", sumInParallel())
	fmt.Fprintln(os.Stderr, "leaving with", code)
	os.Exit(code)
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "error: "+format+"\n", values...)
	os.Exit(2)
}

// cat prints a file, or every file of a directory.
func cat(path string) {
	names := []string{path}
	if entries, err := os.ReadDir(path); err == nil {
		names = nil
		for _, entry := range entries {
			if !strings.HasPrefix(entry.Name(), ".") {
				names = append(names, filepath.Join(path, entry.Name()))
			}
		}
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			fmt.Printf("cat %s: %v\n", name, err)
			continue
		}
		fmt.Printf("cat %s: %s\n", name, strings.TrimSpace(string(content)))
	}
}

// readJSON prints an object's members in order.
func readJSON(path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		fail("%v", err)
	}
	var object map[string]any
	if err := json.Unmarshal(content, &object); err != nil {
		fail("%s: %v", path, err)
	}
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Printf("json %s = %v\n", name, object[name])
	}
}

// sumInParallel sleeps, allocates, collects and switches goroutines: what needs clocks, polls and memory.
func sumInParallel() int {
	var wait sync.WaitGroup
	numbers := make(chan int, 8)
	for worker := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			time.Sleep(time.Duration(worker) * time.Millisecond)
			block := make([]int, 100_000)
			block[worker] = worker
			numbers <- block[worker]
		}()
	}
	wait.Wait()
	runtime.GC()
	close(numbers)
	sum := 0
	for number := range numbers {
		sum += number
	}
	return sum
}
