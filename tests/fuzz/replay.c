// Runs a fuzz target over files and folders of inputs, so that ctest replays every corpus without
// a fuzzing engine. A target that crashes or trips a sanitizer ends the program.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        perror(path);
        return -1;
    }
    struct stat st;
    if (fstat(fileno(f), &st) != 0) {
        fclose(f);
        return -1;
    }
    // An exact-size heap block lets ASan see a read past the end of the input.
    uint8_t *data = malloc(st.st_size > 0 ? (size_t)st.st_size : 1);
    size_t n = fread(data, 1, (size_t)st.st_size, f);
    fclose(f);
    LLVMFuzzerTestOneInput(data, n);
    free(data);
    return 1;
}

static int replay_path(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) {
        perror(path);
        return -1;
    }
    if (!S_ISDIR(st.st_mode)) {
        return replay_file(path);
    }
    DIR *dir = opendir(path);
    if (dir == NULL) {
        perror(path);
        return -1;
    }
    int n_run = 0;
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') {
            continue;
        }
        char file[4096];
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        int n = replay_path(file);
        if (n < 0) {
            closedir(dir);
            return n;
        }
        n_run += n;
    }
    closedir(dir);
    return n_run;
}

int main(int argc, char **argv) {
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    int n_run = 0;
    for (int i = 1; i < argc; i++) {
        int n = replay_path(argv[i]);
        if (n < 0) {
            return 1;
        }
        n_run += n;
    }
    printf("%d inputs replayed\n", n_run);
    return n_run > 0 ? 0 : 1;
}
