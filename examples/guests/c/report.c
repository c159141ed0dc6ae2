// Says what a container was given, the way a C program sees it through wasi-libc: arguments, environment, files, streams,
// exit code. A preview 1 command.
//
//   report [--cat FILE] [--write FILE TEXT] [--list DIR] [--exit CODE] [WORD…]
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static void cat(const char *path) {
    FILE *file = fopen(path, "r");
    if (!file) {
        printf("cat %s: %s\n", path, strerror(errno));
        return;
    }
    char line[512];
    while (fgets(line, sizeof line, file)) printf("cat %s: %s", path, line);
    fclose(file);
}

static void write_to(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    if (!file) {
        printf("write %s: %s\n", path, strerror(errno));
        return;
    }
    fprintf(file, "%s\n", text);
    printf("write %s: %s\n", path, fclose(file) ? strerror(errno) : "done");
}

static void list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory) {
        printf("list %s: %s\n", path, strerror(errno));
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] != '.') printf("list %s: %s\n", path, entry->d_name);
    }
    closedir(directory);
}

int main(int count, char **arguments) {
    int code = 0;
    for (char **variable = environ; *variable; variable++) {
        if (!strncmp(*variable, "REPORT_", 7)) printf("env %s\n", *variable);
    }
    for (int i = 1; i < count; i++) {
        int left = count - i - 1;
        if (!strcmp(arguments[i], "--cat") && left >= 1) {
            cat(arguments[++i]);
        } else if (!strcmp(arguments[i], "--write") && left >= 2) {
            write_to(arguments[i + 1], arguments[i + 2]);
            i += 2;
        } else if (!strcmp(arguments[i], "--list") && left >= 1) {
            list(arguments[++i]);
        } else if (!strcmp(arguments[i], "--exit") && left >= 1) {
            code = atoi(arguments[++i]);
        } else {
            printf("arg %d %s\n", i, arguments[i]);
        }
    }
    fflush(stdout);
    fprintf(stderr, "leaving with %d\n", code);
    return code;
}
