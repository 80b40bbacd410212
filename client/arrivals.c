#include "client/arrivals.h"

#include <math.h>

/* In (0, 1). */
static double unit(cog_rng *rng)
{
    return (cog_rng_unit(cog_rng_next(rng)) * 0x1p53 + 0.5) * 0x1p-53;
}

static double normal(cog_rng *rng)
{
    double radius = sqrt(-2 * log(unit(rng)));

    return radius * cos(2 * M_PI * unit(rng));
}

/* shape >= 1 */
static double gamma_from_one(cog_rng *rng, double shape)
{
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

    for (;;) {
        double x = normal(rng), v = 1 + c * x;

        v = v * v * v;
        if (v > 0 && log(unit(rng)) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

double cog_arrivals_gap(cog_rng *rng, double rate, double burstiness)
{
    double value;

    if (burstiness >= 1)
        value = gamma_from_one(rng, burstiness);
    else
        value = gamma_from_one(rng, burstiness + 1) * pow(unit(rng), 1 / burstiness);
    return value / (rate * burstiness);
}
