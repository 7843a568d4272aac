/* Heat in a rod, u_t = a u_xx on [0, 1] with cold ends, explicit in time: a solver for data=program.

       cc -O2 -o heat_rod docs/examples/heat_rod.c -lm

   Points are nodes, x = i/(n - 1). u(x, 0) is a sum of four sines; their amplitudes follow from the
   seed. For little-endian machines, which nearly all are. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double chance(unsigned long long *state) { /* splitmix64, in [0, 1) */
    unsigned long long z = (*state += 0x9E3779B97F4A7C15ULL);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return ((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

int main(void) {
    char line[256], name[128], value[128];
    unsigned long long seed = 0;
    int n = 0, num_steps = 0;
    double dt = 0, a = 0;
    while (fgets(line, sizeof line, stdin) && sscanf(line, "%127s %127s", name, value) == 2) {
        if (!strcmp(name, "seed")) seed = strtoull(value, NULL, 10);
        if (!strcmp(name, "shape")) n = atoi(value); /* in 2-D the line has two numbers */
        if (!strcmp(name, "num_steps")) num_steps = atoi(value);
        if (!strcmp(name, "dt")) dt = atof(value);
        if (!strcmp(name, "diffusivity")) a = atof(value);
    }
    if (n < 3 || dt <= 0 || a <= 0) {
        fprintf(stderr, "needs 3 points, and a time step and a diffusivity above 0\n");
        return 2;
    }
    double pi = acos(-1.0), dx = 1.0 / (n - 1), *u = calloc(n, sizeof *u), *v = calloc(n, sizeof *v);
    for (int mode = 1; mode <= 4; mode++) {
        double amplitude = 2 * chance(&seed) - 1;
        for (int i = 1; i < n - 1; i++) u[i] += amplitude * sin(mode * pi * i * dx);
    }
    int substeps = (int)ceil(dt * a / (0.25 * dx * dx));
    double r = a * (dt / substeps) / (dx * dx);
    for (int step = 0; step <= num_steps; step++) {
        double time = step * dt;
        fwrite(&time, sizeof time, 1, stdout);
        fwrite(u, sizeof *u, n, stdout);
        fflush(stdout); /* a frame can be trained on while the next is computed */
        for (int sub = 0; sub < substeps && step < num_steps; sub++) {
            for (int i = 1; i < n - 1; i++) v[i] = u[i] + r * (u[i - 1] - 2 * u[i] + u[i + 1]);
            double *swap = u; u = v; v = swap;
        }
    }
    return 0;
}
