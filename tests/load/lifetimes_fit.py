"""Fits BG/NBD and Gamma-Gamma by the package lifetimes: purchase,recency,age,value of each customer from
standard input (weeks), parameters and seconds as JSON to standard output."""

import json
import sys
import time

import pandas
from lifetimes import BetaGeoFitter, GammaGammaFitter

customers = pandas.read_csv(sys.stdin)
begin = time.perf_counter()
often = BetaGeoFitter()
often.fit(customers.purchases, customers.recency, customers.age)
between = time.perf_counter()
again = customers[(customers.purchases > 0) & (customers.value > 0)]
value = GammaGammaFitter()
value.fit(again.purchases, again.value)
end = time.perf_counter()
print(
    json.dumps(
        {
            "frequency": dict(often.params_),
            "value": dict(value.params_),
            "frequency_seconds": between - begin,
            "value_seconds": end - between,
        }
    )
)
